/**
 * The program that the demo runs inside its containers. It is part of the image.
 *
 * It reads the whole merged tree, changes it in the four ways a container can (a new file, a file given
 * away, a changed file, a deleted one) and prints one line of JSON: what it found and who it is.
 * Whether that is right is not for it to say; the demo compares, on the host.
 *
 * argv: the id inside the container to give a file to (0 where there is only one id).
 */
import { appendFileSync, chownSync, lstatSync, unlinkSync, writeFileSync } from 'node:fs'
import { listing, readTree } from './tree.mjs'

const owner = Number(process.argv[2] ?? 0)
const tree = listing(readTree('/'))

writeFileSync('/data/hello.txt', 'written in the container\n')
writeFileSync('/data/given.txt', 'given away in the container\n')
if (owner !== 0) chownSync('/data/given.txt', owner, owner)
appendFileSync('/etc/release', 'changed in the container\n')
unlinkSync('/app/deleted-in-the-container')

const hello = lstatSync('/data/hello.txt')
console.log(
  JSON.stringify({
    pid: process.pid,
    uid: process.getuid?.(),
    tree,
    hello: { uid: hello.uid, gid: hello.gid },
    given: { uid: lstatSync('/data/given.txt').uid },
  }),
)

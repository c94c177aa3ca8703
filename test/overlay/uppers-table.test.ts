/** The table alone; uppers.test.ts has it under real mounts. */
import t from 'tap'
import { binding } from '../../lib/binding.js'
import {
  inodeKey,
  isReservation,
  nameKey,
  pathKey,
  type Reservation,
  UpperTable,
  type UpperUse,
  uppersInUse,
} from '../../lib/overlay/uppers.js'

const useOf = (where: string) => {
  const use = { where, used: true, inUse: () => use.used }
  return use
}
const reserved = (result: UpperUse | Reservation): Reservation => {
  if (!isReservation(result)) throw new Error(`in use by ${result.where}`)
  return result
}

t.test('a directory is reserved once, until it is released', async (t) => {
  const table = new UpperTable()
  const [one, two] = [useOf('/one'), useOf('/two')]
  const reservation = reserved(table.reserve('1:2', one))
  t.equal(table.reserve('1:2', two), one, 'the answer is who has it')
  t.notOk(isReservation(table.reserve('1:2', two)))
  t.ok(isReservation(table.reserve('1:3', two)))
  reservation.release()
  t.ok(isReservation(table.reserve('1:2', two)))
})

t.test('a mount that somebody else took away does not count', async (t) => {
  const table = new UpperTable()
  const [one, two, three] = [useOf('/one'), useOf('/two'), useOf('/three')]
  const first = reserved(table.reserve('1:2', one))
  one.used = false
  reserved(table.reserve('1:2', two))
  first.release()
  t.equal(table.reserve('1:2', three), two, 'a late release takes nothing from its successor')
})

t.test('keys', async (t) => {
  t.equal(inodeKey(2n ** 40n, 7n), '1099511627776:7')
  t.not(inodeKey(1n, 11n), inodeKey(11n, 1n))
  const [one, two] = [Buffer.from([0x2f, 0xff]), Buffer.from([0x2f, 0xfe])]
  t.not(pathKey(one), pathKey(two), 'bytes that are not UTF-8 are not all the same')
  t.equal(pathKey(one), pathKey(new Uint8Array(one)))
  t.not(pathKey(Buffer.from('1:2')), inodeKey(1n, 2n))
  t.equal(nameKey(1n, 2n, one), nameKey(1n, 2n, new Uint8Array(one)))
  t.not(nameKey(1n, 2n, one), nameKey(1n, 2n, two))
})

t.test('the table of the process', async (t) => {
  const use = useOf('/one')
  const reservation = reserved(uppersInUse.reserve('test', use))
  t.equal(uppersInUse.reserve('test', useOf('/two')), use)
  reservation.release()
})

t.test('what nobody released is swept: the table does not grow with mounts that are gone', async (t) => {
  const table = new UpperTable(binding)
  for (let i = 0; i < 5000; i++) {
    const use = useOf(`/${i}`)
    reserved(table.reserve(`swept:${i}`, use))
    use.used = i % 500 === 0
  }
  t.ok(table.size < 200, `${table.size} of 5000 are left`)
  t.notOk(isReservation(table.reserve('swept:0', useOf('/again'))), 'those in use are kept')
  const other = new UpperTable(binding)
  t.ok(isReservation(other.reserve('swept:1', useOf('/other'))), 'nor does what is shared')
  t.notOk(isReservation(other.reserve('swept:500', useOf('/other'))))
})

t.test('two tables of one process', async (t) => {
  const [here, there] = [new UpperTable(binding), new UpperTable(binding)]
  const [one, two, three] = [useOf('/one'), useOf('/two'), useOf('/three')]
  const reservation = reserved(here.reserve('shared', one))
  t.match(there.reserve('shared', two), { where: /another thread/ }, 'it is being made, or detached')
  t.ok(isReservation(there.reserve(pathKey(Buffer.from('/a')), two)))
  const namespace = binding.mountNamespace()
  reservation.settle({ namespace: namespace + 1, mountId: 2n ** 62n, dev: 0n }, '/one')
  t.match(there.reserve('shared', two), { where: '/one' }, 'in a namespace that nobody here can look into')
  reservation.settle({ namespace, mountId: 2n ** 62n, dev: 0n }, '/one')
  const next = reserved(there.reserve('shared', two))
  reservation.release()
  t.match(
    here.reserve('shared', three),
    { where: /another thread/ },
    'a late release takes nothing here either',
  )
  next.release()
  reserved(here.reserve('shared', three)).release()
})

t.test('the addon’s claims', async (t) => {
  const name = Buffer.from('claims test')
  const first = binding.claim(name, 0)
  t.ok(first > 0)
  t.equal(binding.claim(name, 0), -first)
  t.equal(binding.claim(name, first + 1000), -first, 'another than the one that may be replaced')
  t.same(binding.claimNote(first), Buffer.alloc(0))
  binding.noteClaim(first, Buffer.from('note'))
  t.same(binding.claimNote(first), Buffer.from('note'))
  const second = binding.claim(name, first)
  t.ok(second > first)
  t.equal(binding.claimNote(first), undefined)
  binding.noteClaim(first, Buffer.from('late'))
  binding.dropClaim(first)
  t.equal(binding.claim(name, 0), -second)
  binding.dropClaim(second)
  binding.dropClaim(second)
  for (const wrong of ['x', -1, null, {}] as never[]) {
    t.throws(() => binding.claim(wrong, 0), TypeError)
    t.throws(() => binding.claim(name, wrong), TypeError)
    t.throws(() => binding.noteClaim(first, wrong), TypeError)
    t.throws(() => binding.claimNote(wrong), TypeError)
    t.throws(() => binding.dropClaim(wrong), TypeError)
  }
  t.equal(binding.claimNote(second), undefined)
})

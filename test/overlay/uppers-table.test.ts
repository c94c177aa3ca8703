/** The table alone; uppers.test.ts has it under real mounts. */
import t from 'tap'
import {
  inodeKey,
  isReservation,
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
})

t.test('the table of the process', async (t) => {
  const use = useOf('/one')
  const reservation = reserved(uppersInUse.reserve('test', use))
  t.equal(uppersInUse.reserve('test', useOf('/two')), use)
  reservation.release()
})

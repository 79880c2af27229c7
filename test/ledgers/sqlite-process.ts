/** A process that shares a file of SQLite: claims each key once, as often as its rivals do. */
import { SqliteStore } from '../../src/sqlite/store.ts'
import { newClaim } from './claims.ts'

const { LEDGER_PATH = '', KEYS = '' } = process.env
const store = new SqliteStore(LEDGER_PATH)
await store.migrate()
const granted: string[] = []
for (const key of KEYS.split(',')) {
  const { kind } = await store.claim({ ...newClaim(), key, fingerprint: key })
  if (kind === 'claimed') granted.push(key)
}
console.log(granted.join(','))
await store.close()

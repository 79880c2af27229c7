/** Writes the types of the CommonJS build: those of the ES modules, with the names of its files. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'

const dist = new URL('dist/', import.meta.url)
for (const name of readdirSync(dist)) {
  if (!name.endsWith('.d.ts')) continue
  const types = readFileSync(new URL(name, dist), 'utf8')
  const commonJs = types.replace(/(['"])(\.{1,2}\/[^'"]+)\.js\1/g, '$1$2.cjs$1')
  writeFileSync(new URL(name.replace(/\.d\.ts$/, '.d.cts'), dist), commonJs)
}

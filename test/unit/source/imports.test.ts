/** Imports point downwards: between the folders and top-level files of `src/`, and between any two files. */
import { dirname, join } from 'node:path/posix'
import ts from 'typescript'
import { describe, expect, it } from 'vitest'
import { lineOf, nodesOf, parse, parseFolder } from './source.ts'

/** From the bottom up. What stands in one line does not import one another. */
const layers = [
  ['runtime', 'observe'],
  ['errors.ts'],
  ['payment'],
  ['facilitator'],
  ['pool', 'settlement'],
  ['events.ts'],
  ['flows', 'options', 'testing', 'ledgers'],
  // What comes with a probe is not the aggregator's: whoever has none does not bundle it.
  ['aggregator.ts', 'chain', 'known', 'ledger', 'postgres', 'redis', 'sqlite'],
  ['index.ts', 'probe', 'evm', 'svm', 'delivery', 'durable-object'],
  ['env', 'http', 'reconcile'],
  ['node'],
  ['cli'],
]

interface Import {
  readonly from: string
  readonly to: string
  readonly line: number
}

/** Every import of another file of `src/`: of types and values, at the top, in a type and at run time. */
function importsOf(file: ts.SourceFile): Import[] {
  return nodesOf(file).flatMap(node => {
    const name = moduleOf(node)
    if (name === undefined || !ts.isStringLiteral(name) || !name.text.startsWith('.')) return []
    return [{ from: file.fileName, to: join(dirname(file.fileName), name.text), line: lineOf(node) }]
  })
}

function moduleOf(node: ts.Node): ts.Node | undefined {
  if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) return node.moduleSpecifier
  if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) return node.argument.literal
  if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword)
    return node.arguments[0]
  return undefined
}

/** The folder of a file, or the file itself at the top. */
function unitOf(path: string): string {
  return path.split('/')[1] ?? path
}

/** Imports between units whose layer is not below the importing one. */
function upward(imports: readonly Import[]): string[] {
  const layerOf = (path: string) => layers.findIndex(layer => layer.includes(unitOf(path)))
  return imports
    .filter(({ from, to }) => unitOf(from) !== unitOf(to) && layerOf(to) >= layerOf(from))
    .map(({ from, line, to }) => `${from}:${line} imports ${to}`)
}

/** A circle of files, each importing the next, or nothing. */
function circle(imports: readonly Import[]): string[] | undefined {
  const next = new Map<string, string[]>()
  for (const { from, to } of imports) next.set(from, [...(next.get(from) ?? []), to])
  const seen = new Set<string>()
  const search = (path: string, way: readonly string[]): string[] | undefined => {
    if (way.includes(path)) return [...way.slice(way.indexOf(path)), path]
    if (seen.has(path)) return undefined
    seen.add(path)
    for (const to of next.get(path) ?? []) {
      const found = search(to, [...way, path])
      if (found !== undefined) return found
    }
    return undefined
  }
  for (const path of next.keys()) {
    const found = search(path, [])
    if (found !== undefined) return found
  }
  return undefined
}

const files = parseFolder('src')
const imports = files.flatMap(importsOf)

describe('the sources', () => {
  it('stand in a layer each', () => {
    const units = new Set(files.map(({ fileName }) => unitOf(fileName)))
    expect([...units].sort()).toEqual(layers.flat().sort())
  })

  it('import from lower layers only', () => {
    expect(imports.length).toBeGreaterThan(200)
    expect(upward(imports)).toEqual([])
  })

  it('import one another in no circle, types included', () => {
    expect(circle(imports)).toBeUndefined()
  })
})

describe('what this finds', () => {
  const of = (path: string, text: string) => importsOf(parse(path, text))

  it.each([
    ['a value', "import { Pool } from '../pool/pool.ts'"],
    ['a type', "import type { Pool } from '../pool/pool.ts'"],
    ['what is exported again', "export * from '../pool/pool.ts'"],
    ['a type within a type', "let pool: import('../pool/pool.ts').Pool"],
    ['a module at run time', "await import('../pool/pool.ts')"],
  ])('an import upwards of %s', (_, text) => {
    expect(upward(of('src/observe/log.ts', text))).toEqual(['src/observe/log.ts:1 imports src/pool/pool.ts'])
  })

  it('an import of a folder beside', () => {
    expect(upward(of('src/pool/pool.ts', "import '../settlement/books.ts'"))).toHaveLength(1)
  })

  it('a circle of three files', () => {
    const three = [
      of('src/pool/a.ts', "import './b.ts'"),
      of('src/pool/b.ts', "import type { C } from './c.ts'"),
      of('src/pool/c.ts', "export { a } from './a.ts'"),
    ].flat()
    expect(circle(three)).toEqual(['src/pool/a.ts', 'src/pool/b.ts', 'src/pool/c.ts', 'src/pool/a.ts'])
    expect(circle(three.slice(1))).toBeUndefined()
  })
})

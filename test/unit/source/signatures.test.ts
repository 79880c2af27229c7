/** What the compiler and the linter do not demand of signatures and casts. */
import ts from 'typescript'
import { describe, expect, it } from 'vitest'
import { lineOf, nodesOf, parse, parseFolder } from './source.ts'

/** Positions say nothing at the call: from the fourth on, parameters have names. */
const most = 3

/** Those that are left, by file; one that is mended must go from here. */
const longSignatures: Record<string, readonly string[]> = {
  'src/facilitator/attempt.ts': ['attempt', 'invoke'],
  'src/facilitator/classify.ts': ['classifyResponse', 'classifyRefusal', 'classifyStatus'],
  'src/facilitator/http-client.ts': ['call', 'fetchOrExplain'],
  'src/observe/observer.ts': ['log', 'fault', 'emit'],
  'src/pool/route.ts': ['findRoute'],
  'src/runtime/bounded-map.ts': ['setBounded'],
}

/** What users may implement either way, the handler that has the type of Hono's, and one on the way of each payment. */
const maybeLater: Record<string, readonly string[]> = {
  'src/facilitator/client.ts': ['getSupported'],
  'src/http/gateway.ts': ['fetch'],
  'src/payment/payment-key.ts': ['identify', 'hashIfLong'],
}

function nameOf(node: ts.SignatureDeclaration): string {
  const owner =
    ts.isVariableDeclaration(node.parent) || ts.isPropertyAssignment(node.parent) ? node.parent : node
  if (ts.isConstructorDeclaration(node)) return `new ${node.parent.name?.text}`
  return owner.name?.getText() ?? 'a function'
}

/** A parameter `this` is a type and no position. */
function positionsOf(node: ts.SignatureDeclaration): number {
  return node.parameters.filter(({ name }) => name.getText() !== 'this').length
}

function longIn(file: ts.SourceFile): string[] {
  return nodesOf(file)
    .filter(node => ts.isFunctionLike(node))
    .filter(node => positionsOf(node) > most)
    .map(nameOf)
}

/** A type that is a value or a promise of it. */
function isMaybePromise(type: ts.TypeNode | undefined): boolean {
  const isPromise = (one: ts.TypeNode) => ts.isTypeReferenceNode(one) && one.typeName.getText() === 'Promise'
  return (
    type !== undefined &&
    ts.isUnionTypeNode(type) &&
    type.types.some(isPromise) &&
    !type.types.every(one => isPromise(one) || one.kind === ts.SyntaxKind.UndefinedKeyword)
  )
}

/** Functions of ours that answer at once or later; what users give may do so. */
function maybeLaterIn(file: ts.SourceFile): string[] {
  return nodesOf(file)
    .filter(
      node => ts.isFunctionDeclaration(node) || ts.isMethodDeclaration(node) || ts.isMethodSignature(node),
    )
    .filter(({ type }) => isMaybePromise(type))
    .map(nameOf)
}

function castsToNeverIn(file: ts.SourceFile): string[] {
  return nodesOf(file)
    .filter(node => ts.isAsExpression(node) && node.type.kind === ts.SyntaxKind.NeverKeyword)
    .map(node => `${file.fileName}:${lineOf(node)} ${node.getText()}`)
}

const sources = parseFolder('src')
const found = (inFile: (file: ts.SourceFile) => string[]) =>
  Object.fromEntries(
    sources.map(file => [file.fileName, inFile(file)] as const).filter(([, names]) => names.length > 0),
  )

describe('in the sources', () => {
  it(`nothing has more than ${most} positional parameters, but for what is listed`, () => {
    expect(found(longIn)).toEqual(longSignatures)
  })

  it('nothing returns a value or a promise of it, but for what is listed', () => {
    expect(found(maybeLaterIn)).toEqual(maybeLater)
  })
})

it('nothing is cast to never, in the sources, tests, benchmarks and examples', () => {
  const folders = ['src', 'test', 'bench', 'examples']
  expect(folders.flatMap(folder => parseFolder(folder, 'as never')).flatMap(castsToNeverIn)).toEqual([])
})

describe('what this finds', () => {
  const file = (text: string) => parse('text.ts', text)

  it.each([
    ['a function', 'function f(a, b, c, d) {}', 'f'],
    ['an arrow', 'const f = (a, b, c, d) => 0', 'f'],
    ['a method', 'class C { f(a, b, c, d) {} }', 'f'],
    ['a constructor', 'class C { constructor(a, b, c, d) {} }', 'new C'],
  ])('%s with four parameters', (_, text, name) => {
    expect(longIn(file(text))).toEqual([name])
    expect(longIn(file(text.replace(', d', '')))).toEqual([])
  })

  it.each([
    'function f(): number | Promise<number> {}',
    'class C { f(): A | undefined | Promise<A> {} }',
    'interface I { f(): A | Promise<A> }',
  ])('%s', text => {
    expect(maybeLaterIn(file(text))).toEqual(['f'])
  })

  it('a function that has a promise or nothing is none of them', () => {
    expect(maybeLaterIn(file('function f(): Promise<A> | undefined {}'))).toEqual([])
  })

  it('a cast to never', () => {
    expect(castsToNeverIn(file('f(x as never)'))).toEqual(['text.ts:1 x as never'])
  })
})

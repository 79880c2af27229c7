/** The library's own sources, parsed: for tests of what they must have in common. */
import { readdirSync, readFileSync } from 'node:fs'
import ts from 'typescript'

const root = new URL('../../../', import.meta.url)

/** A file of the repository, by its path from the root. */
export function read(path: string): string {
  return readFileSync(new URL(path, root), 'utf8')
}

export function parse(path: string, text = read(path)): ts.SourceFile {
  return ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true)
}

/** The TypeScript files below a folder, parsed; those that have this text in them. */
export function parseFolder(folder: string, text = ''): ts.SourceFile[] {
  return filesBelow(folder)
    .sort()
    .filter(path => text === '' || read(path).includes(text))
    .map(path => parse(path))
}

function filesBelow(folder: string): string[] {
  return readdirSync(new URL(`${folder}/`, root), { withFileTypes: true }).flatMap(entry => {
    const path = `${folder}/${entry.name}`
    if (entry.isDirectory())
      return entry.name === 'node_modules' || entry.name.startsWith('.') ? [] : filesBelow(path)
    return path.endsWith('.ts') ? [path] : []
  })
}

/** The node and all below it, in the order of the text. */
export function nodesOf(node: ts.Node): ts.Node[] {
  const nodes: ts.Node[] = []
  const visit = (one: ts.Node) => {
    nodes.push(one)
    one.forEachChild(visit)
  }
  visit(node)
  return nodes
}

export function lineOf(node: ts.Node): number {
  return node.getSourceFile().getLineAndCharacterOfPosition(node.getStart()).line + 1
}

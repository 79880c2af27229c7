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

/** The TypeScript files below a folder, parsed. */
export function parseFolder(folder: string): ts.SourceFile[] {
  return readdirSync(new URL(`${folder}/`, root), { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.ts') && !name.includes('node_modules'))
    .sort()
    .map(name => parse(`${folder}/${name}`))
}

/** The node and all below it, in the order of the text. */
export function nodesOf(node: ts.Node): ts.Node[] {
  const nodes = [node]
  node.forEachChild(child => {
    nodes.push(...nodesOf(child))
  })
  return nodes
}

export function lineOf(node: ts.Node): number {
  return node.getSourceFile().getLineAndCharacterOfPosition(node.getStart()).line + 1
}

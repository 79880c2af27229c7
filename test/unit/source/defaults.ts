/** What the code, its docstrings and the README say that an option is when nobody sets it. */
import ts from 'typescript'
import { nodesOf, parse } from './source.ts'

/** One option of an exported interface. */
export interface DocumentedOption {
  readonly owner: string
  readonly name: string
  readonly isOptional: boolean
  /** The text of its `@default`, if it has one. */
  readonly text: string | undefined
}

/** The options that the interfaces of a file declare. */
export function documentedOptions(file: ts.SourceFile): DocumentedOption[] {
  return nodesOf(file)
    .filter(ts.isInterfaceDeclaration)
    .flatMap(declaration =>
      declaration.members.filter(ts.isPropertySignature).map(member => ({
        owner: declaration.name.text,
        name: member.name.getText(),
        isOptional: member.questionToken !== undefined,
        text: defaultTag(member),
      })),
    )
}

function defaultTag(member: ts.Node): string | undefined {
  const tag = ts.getJSDocTags(member).find(({ tagName }) => tagName.text === 'default')
  if (tag === undefined) return undefined
  return (ts.getTextOfJSDocComment(tag.comment) ?? '').trim()
}

/** What each name in a file stands for when it is not given: literals as values, all else as its text. */
export function codedDefaults(file: ts.SourceFile): Map<string, Set<string>> {
  const constants = constantsOf(file)
  const found = new Map<string, Set<string>>()
  const add = (name: string, value: ts.Expression) => {
    const text = literalOf(value, constants) ?? value.getText()
    found.set(name, (found.get(name) ?? new Set()).add(text))
  }
  for (const node of nodesOf(file)) {
    if (ts.isBindingElement(node) && node.initializer !== undefined)
      add((node.propertyName ?? node.name).getText(), node.initializer)
    if (ts.isBinaryExpression(node) && node.operatorToken.kind === ts.SyntaxKind.QuestionQuestionToken) {
      const given = lastOf(node.left)
      if (ts.isPropertyAccessExpression(given)) add(given.name.text, node.right)
    }
  }
  const table = constants.get('defaults')
  if (table !== undefined && ts.isObjectLiteralExpression(table))
    for (const property of table.properties)
      if (ts.isPropertyAssignment(property)) add(property.name.getText(), property.initializer)
  return found
}

/** Of `a.x ?? b.x`, `b.x`. */
function lastOf(expression: ts.Expression): ts.Expression {
  return ts.isBinaryExpression(expression) ? expression.right : expression
}

/** The constants at the top of a file. */
function constantsOf(file: ts.SourceFile): Map<string, ts.Expression> {
  const constants = new Map<string, ts.Expression>()
  for (const statement of file.statements)
    if (ts.isVariableStatement(statement))
      for (const { name, initializer } of statement.declarationList.declarations)
        if (initializer !== undefined) constants.set(name.getText(), withoutType(initializer))
  return constants
}

function withoutType(expression: ts.Expression): ts.Expression {
  return ts.isAsExpression(expression) ? expression.expression : expression
}

/** The number that a constant at the top of a file is, or a property of one: `limits.requestTimeout`. */
export function constant(path: string, name: string): number {
  const expression = expressionOf(name)
  const value = expression && literalOf(expression, constantsOf(parse(path)))
  if (value === undefined) throw new Error(`${path} has no constant ${name}`)
  return Number(value)
}

/** The text as an expression, if the whole of it is one. */
function expressionOf(text: string): ts.Expression | undefined {
  const [statement] = parse('text.ts', `(${text})`).statements
  const isWhole = statement?.getEnd() === text.length + 2
  return isWhole && ts.isExpressionStatement(statement) ? statement.expression : undefined
}

/** A literal as JSON, whatever its spelling; nothing for what only a running program knows. */
function literalOf(node: ts.Expression, constants: ReadonlyMap<string, ts.Expression>): string | undefined {
  if (ts.isNumericLiteral(node)) return JSON.stringify(Number(node.text))
  if (ts.isStringLiteral(node)) return JSON.stringify(node.text)
  if (node.kind === ts.SyntaxKind.TrueKeyword) return 'true'
  if (node.kind === ts.SyntaxKind.FalseKeyword) return 'false'
  if (ts.isArrayLiteralExpression(node) && node.elements.length === 0) return '[]'
  if (ts.isParenthesizedExpression(node)) return literalOf(node.expression, constants)
  if (ts.isObjectLiteralExpression(node)) {
    const properties = node.properties.map(property => {
      const value = ts.isPropertyAssignment(property) ? literalOf(property.initializer, constants) : undefined
      return value === undefined ? undefined : `"${property.name?.getText()}":${value}`
    })
    return properties.includes(undefined) ? undefined : `{${properties.join(',')}}`
  }
  if (ts.isIdentifier(node)) {
    const named = constants.get(node.text)
    return named === undefined ? undefined : literalOf(named, constants)
  }
  if (ts.isPropertyAccessExpression(node) && ts.isIdentifier(node.expression)) {
    const owner = constants.get(node.expression.text)
    if (owner === undefined || !ts.isObjectLiteralExpression(owner)) return undefined
    const property = owner.properties.find(({ name }) => name?.getText() === node.name.text)
    return property !== undefined && ts.isPropertyAssignment(property)
      ? literalOf(property.initializer, constants)
      : undefined
  }
  return undefined
}

/** The same for a text of the documentation: `5_000` and `{ verify: 5000 }` are values, `none` is not. */
export function written(text: string): string {
  const expression = expressionOf(text)
  return (expression && literalOf(expression, new Map())) ?? text
}

export interface TableRow {
  /** What the first column names. */
  readonly names: readonly string[]
  /** The second column. */
  readonly cell: string
}

/** The rows of the README's tables whose first two columns are these. */
export function tablesWith(readme: string, first: string, second: string): TableRow[][] {
  const head = new RegExp(`^\\| *${first} *\\| *${second} *\\|.*\\n\\|[ |:-]+\\n((?:\\|.*\\n)+)`, 'gm')
  return [...readme.matchAll(head)].map(([, rows = '']) =>
    rows
      .trimEnd()
      .split('\n')
      .map(row => {
        const [, names = '', cell = ''] = row.split('|').map(text => text.trim())
        return { names: [...names.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name), cell }
      }),
  )
}

/** What a cell says: its code, where it begins with some, or its words. */
export function cellValue(cell: string): string {
  const code = /^`([^`]+)`/.exec(cell)?.[1]
  return code === undefined ? cell : written(code)
}

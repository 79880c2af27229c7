/** The table of buyers in the documentation is that of the cells as they are, and keeps its promise. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { exceptionOf, matrix, nameOf } from '../../buyers/matrix.ts'

const page = readFileSync(new URL('../../buyers/TABLE.md', import.meta.url), 'utf8')
const rows = page
  .split('\n')
  .filter(line => line.startsWith('| '))
  .slice(2)
  .map(line => line.slice(2, -2).split(' | '))
const purchases = /In each cell (\d+) buyers/.exec(page)?.[1]

describe('the table of buyers', () => {
  it('has every cell', () => {
    expect(rows.map(([fault, server, client]) => `${client} > ${server} > ${fault}`)).toEqual(
      matrix.map(nameOf),
    )
  })

  it('has as many deliveries as charges, but for the exceptions that it names', () => {
    const promised = rows.filter((_, at) => {
      const cell = matrix[at]
      return cell !== undefined && exceptionOf(cell) === undefined
    })
    expect(
      promised.filter(([, , , charged, delivered]) => charged !== purchases || delivered !== purchases),
    ).toEqual([])
    for (const cell of matrix) expect(page).toContain(exceptionOf(cell) ?? '')
  })

  it('has no cell that breaks its promise', () => {
    expect(page).not.toContain('BROKEN')
  })
})

import { describe } from 'vitest'
import { itKeepsThePromise } from './matrix-cells.ts'

describe('a buyer who was charged is never asked to pay again', () => {
  describe('by a facilitator that settles and denies it', () => itKeepsThePromise('denials'))
  describe('while one facilitator hangs and the next has a passing fault', () =>
    itKeepsThePromise('patience'))
  describe('when the ledger loses what it was given, or hangs', () => itKeepsThePromise('ledgers'))
  describe("from a balance that the token's contract does not show", () =>
    itKeepsThePromise('gateway wallet'))
})

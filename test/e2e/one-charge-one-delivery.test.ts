import { describe } from 'vitest'
import { itKeepsThePromise } from './matrix-cells.ts'

describe('one charge is one delivery', () => {
  describe('for replicas of one seller', () => itKeepsThePromise('replicas'))
  describe('for purchases by Permit2', () => itKeepsThePromise('permit2'))
  describe('for a payment that is sent under several names', () => itKeepsThePromise('identity'))
})

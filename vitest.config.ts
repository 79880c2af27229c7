import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    // What an aggregator without a logger tells the console of the faults that a test makes.
    onConsoleLog: log => !log.startsWith('[Facilitator]'),
    // Those on a chain wait for its blocks most of the time.
    maxWorkers: Math.max(2, availableParallelism()),
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts', 'test/hostile/**/*.test.ts'],
          // The SDK itself brings a hundred packages; examples/ use it for real.
          alias: { '@coinbase/cdp-sdk/auth': new URL('test/unit/cdp-sdk.ts', import.meta.url).pathname },
        },
      },
      {
        // On real servers, where they are installed.
        test: {
          name: 'ledgers',
          include: ['test/ledgers/**/*.test.ts'],
          testTimeout: 30_000,
          hookTimeout: 30_000,
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          testTimeout: 60_000,
          hookTimeout: 60_000,
          maxConcurrency: 4,
        },
      },
    ],
  },
})

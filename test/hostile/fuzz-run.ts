/** Runs a target's cases in batches, each with a seed of its own, and watches the memory between them. */
import fc from 'fast-check'

/** Something that is fuzzed; one `Bench` takes all the cases. */
export interface Target<Case> {
  readonly name: string
  /** Its part of all cases. */
  readonly share: number
  /** Batches that run at once, where a case waits more than it works. */
  readonly lanes: number
  readonly cases: fc.Arbitrary<Case>
  open(count: (name: string) => void): Promise<Bench<Case>>
}

export interface Bench<Case> {
  /** @throws {Error} that says which promise was broken */
  try(one: Case): Promise<void>
  close(): Promise<void>
}

export interface Result {
  readonly target: string
  readonly cases: number
  /** What was seen, by class. */
  readonly counts: ReadonlyMap<string, number>
  readonly slowestMs: number
  /** Bytes of heap that the second half of the cases has left behind, each; absent where nobody can measure. */
  readonly bytesPerCase: number | undefined
  readonly seconds: number
  readonly failure: string | undefined
}

const batchSize = 100
/** A case that takes longer hangs (ms). */
const longestCaseMs = 10_000
/** Shrinking included (ms). */
const longestBatchMs = 120_000
/** Heap that one case may leave behind (bytes), as a slope; the noise of the collector is a tenth of it. */
export const maxBytesPerCase = 100
/** Below this the noise is larger than what is looked for. */
const fewestCasesForMemory = 4_000

export async function runTarget<Case>(
  target: Target<Case>,
  cases: number,
  seed: number,
  onProgress: (done: number) => void = () => {},
): Promise<Result> {
  const startedAt = performance.now()
  const counts = new Map<string, number>()
  const bench = await target.open(name => counts.set(name, (counts.get(name) ?? 0) + 1))
  const faults = watchForFaults()
  const heap: { done: number; bytes: number }[] = []
  let slowestMs = 0
  let failure: string | undefined

  const property = fc.asyncProperty(target.cases, async one => {
    const begunAt = performance.now()
    await bench.try(one)
    // A rejection that nobody handles is reported after the microtasks.
    await new Promise(setImmediate)
    faults.demandNone()
    slowestMs = Math.max(slowestMs, performance.now() - begunAt)
  })
  const batches = Array.from({ length: Math.ceil(cases / batchSize) }, (_, batch) => ({
    seed: seed + batch,
    numRuns: Math.min(batchSize, cases - batch * batchSize),
  }))
  let done = 0
  while (batches.length > 0 && failure === undefined) {
    await Promise.all(
      batches.splice(0, target.lanes).map(async batch => {
        const details = await fc.check(property, {
          ...batch,
          timeout: longestCaseMs,
          interruptAfterTimeLimit: longestBatchMs,
          markInterruptAsFailure: true,
        })
        done += batch.numRuns
        if (details.failed) failure = describe(target.name, batch.numRuns, details)
      }),
    )
    if (globalThis.gc !== undefined) {
      globalThis.gc()
      // What finalizers hold goes with the second collection.
      await new Promise(setImmediate)
      globalThis.gc()
      heap.push({ done, bytes: process.memoryUsage().heapUsed })
    }
    onProgress(done)
  }
  faults.end()
  await bench.close()

  const bytesPerCase = cases < fewestCasesForMemory ? undefined : slopeOf(heap)
  if (bytesPerCase !== undefined && bytesPerCase > maxBytesPerCase)
    failure ??= `${target.name}: memory grows by ${bytesPerCase.toFixed(0)} bytes a case`
  const seconds = (performance.now() - startedAt) / 1000
  return { target: target.name, cases: done, counts, slowestMs, bytesPerCase, seconds, failure }
}

function describe<Case>(target: string, numRuns: number, details: fc.RunDetails<[Case]>): string {
  const { seed, counterexample, numShrinks, errorInstance } = details
  const error =
    errorInstance instanceof Error ? (errorInstance.stack ?? errorInstance.message) : errorInstance
  return [
    `${target}: ${error ?? 'a batch was not done in time'}`,
    `shrunk ${numShrinks} times: ${brief(fc.stringify(counterexample?.[0]))}`,
    `again: npm run fuzz -- --target ${target} --cases ${numRuns} --seed ${seed}`,
  ].join('\n')
}

/** The middle of a long text says nothing. */
function brief(text: string): string {
  const longest = 2_000
  return text.length <= longest ? text : `${text.slice(0, longest / 2)} … ${text.slice(-longest / 2)}`
}

function watchForFaults() {
  const faults: unknown[] = []
  const listener = (fault: unknown) => faults.push(fault)
  process.on('unhandledRejection', listener)
  process.on('uncaughtException', listener)
  return {
    demandNone() {
      if (faults.length > 0)
        throw new Error('a rejection or an exception that nobody handles', { cause: faults.splice(0)[0] })
    },
    end() {
      process.off('unhandledRejection', listener)
      process.off('uncaughtException', listener)
    },
  }
}

/** Of the straight line through the second half of the samples (least squares). */
export function slopeOf(samples: readonly { done: number; bytes: number }[]): number | undefined {
  const half = samples.slice(Math.floor(samples.length / 2))
  if (half.length < 2) return undefined
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length
  const x = mean(half.map(({ done }) => done))
  const y = mean(half.map(({ bytes }) => bytes))
  const covariance = mean(half.map(({ done, bytes }) => (done - x) * (bytes - y)))
  return covariance / mean(half.map(({ done }) => (done - x) ** 2))
}

/** @throws {Error} with the promise that was broken */
export function demand(isKept: boolean, broken: () => string): asserts isKept {
  if (!isKept) throw new Error(broken())
}

/** Times in milliseconds for ratios: a loaded machine makes both sides slow. */
export async function medianMs(work: () => unknown, rounds = 9): Promise<number> {
  const times: number[] = []
  for (let round = 0; round < rounds; round++) {
    const begin = performance.now()
    await work()
    times.push(performance.now() - begin)
  }
  return times.sort((one, other) => one - other)[rounds >> 1] ?? 0
}

/** The suite for the Edge runtime, which evaluates a script in a context of its own. */
import { endLoading } from '../load.ts'
import 'entry-points'
import { openGateways } from '../gateway.ts'
import { place } from '../place.ts'
import { runAll } from '../suite.ts'

const waitUntil = () => {}
const usedByModules = endLoading()
const { gateways, usedByConstructors } = openGateways(place, waitUntil)

export async function report(): Promise<string> {
  const results = await runAll({
    place,
    waitUntil,
    visit: async (path, init) => gateways.fetch(new Request(`http://gateway${path}`, init)),
  })
  return JSON.stringify({ usedByModules, usedByConstructors, results })
}

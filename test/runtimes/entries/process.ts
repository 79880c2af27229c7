/** The suite as a program: prints its report as JSON and ends by itself, if nothing is left running. */
import { endLoading } from '../load.ts'
import 'entry-points'
import { openGateways } from '../gateway.ts'
import { place } from '../place.ts'
import { runAll } from '../suite.ts'

const waitUntil = () => {}
const usedByModules = endLoading()
const { gateways, usedByConstructors } = openGateways(place, waitUntil)

const results = await runAll({
  place,
  waitUntil,
  visit: async (path, init) => gateways.fetch(new Request(`http://gateway${path}`, init)),
})
console.log(JSON.stringify({ usedByModules, usedByConstructors, results }))

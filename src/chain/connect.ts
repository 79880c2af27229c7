/** What an aggregator does with the chains that its probes can read. */
import type { ChainReader, Chains, ProbeHost } from '../settlement/probe.ts'
import { chainViewer } from './chain-view.ts'
import { crossExaminer } from './cross-examination.ts'
import { BackgroundWatcher } from './watcher.ts'

export function connect(readers: readonly ChainReader[], host: ProbeHost): Chains {
  const viewOf = chainViewer(readers, host)
  return {
    viewOf,
    crossExamine: crossExaminer(readers, host),
    watcher: new BackgroundWatcher(viewOf, host),
  }
}

/** What an aggregator does with the chains that its probes can read. */
import { chainReading } from '../settlement/chain-reading.ts'
import type { ChainReader, Chains, ProbeHost } from '../settlement/probe.ts'
import { auditor } from './audit.ts'
import { chainViewer } from './chain-view.ts'
import { crossExaminer } from './cross-examination.ts'
import { BackgroundWatcher } from './watcher.ts'

export function connect(readers: readonly ChainReader[], host: ProbeHost): Chains {
  const viewOf = chainViewer(readers, host)
  return {
    viewOf,
    reading: chainReading,
    ...auditor(host),
    crossExamine: crossExaminer(readers, host),
    watcher: new BackgroundWatcher(viewOf, host),
  }
}

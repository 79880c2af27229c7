import type { Place } from './bed.ts'

declare const PLACE: Place

/** Written into the bundle, as runtimes differ in what they can be told when they start. */
export const place = PLACE

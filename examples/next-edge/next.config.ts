import type { NextConfig } from 'next'

/** Not needed outside this repository, whose lock file further up makes Next take the wrong folder for the root. */
const config: NextConfig = { turbopack: { root: import.meta.dirname } }

export default config

/**
 * What is used of undici. Its own index loads its fetch, cache and mock parts too, 25 ms of CPU that no pull needs.
 * A file of its own in a build (scripts/build.ts): it is as large as all the rest of a program, and most runs do without.
 */
export { default as EnvHttpProxyAgent } from 'undici/lib/dispatcher/env-http-proxy-agent.js';
export { default as Pool } from 'undici/lib/dispatcher/pool.js';

// undici's own index loads its fetch, cache and mock parts too, 25 ms of CPU that no pull needs, so undici-client.ts
// imports the two files it uses. undici declares no types for them; package.json pins the exact version.
declare module 'undici/lib/dispatcher/pool.js' {
  import { Pool } from 'undici';
  export = Pool;
}
declare module 'undici/lib/dispatcher/env-http-proxy-agent.js' {
  import { EnvHttpProxyAgent } from 'undici';
  export = EnvHttpProxyAgent;
}

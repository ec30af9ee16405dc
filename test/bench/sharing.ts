/**
 * What a store costs when image after image comes that differs from the last by one file: disk, bytes from the registry and
 * time of each pull, and the memory of a container of each image.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Machine, stdoutOf } from '../machine/machine.ts';
import { REGISTRY, REGISTRY_LOG } from './bench-machine.ts';
import { measure } from './measure.ts';
import { STORE } from './peers.ts';

export interface SharingPeer {
  readonly name: string;
  readonly version: string;
  /** Once, before everything. */
  readonly prepare?: string;
  /** Pulls the image `$1`, whose number is `$2`. */
  readonly pull: string;
  /** Starts a container of the image `$1`, with number `$2` and the payload `$3…`. */
  readonly start: string;
  /** Ends all of them. */
  readonly stop: string;
  /** Back to an empty store. */
  readonly clean: string;
  /** The directory of its store. */
  readonly store: string;
  /** Services that work for it. */
  readonly services?: readonly string[];
}

export interface Pull {
  readonly wallSeconds: number;
  readonly cpuSeconds: number;
  readonly sentBytes: number;
}

export interface SharingResult {
  readonly image: string;
  readonly peer: string;
  readonly pulls: readonly Pull[];
  readonly firstDiskBytes: number;
  readonly diskBytes: number;
  /** Of the store's files, in the page cache. */
  readonly cachedBytes: number;
  /** Proportional set sizes of the payloads. */
  readonly pssBytes: number;
}

const MAX_START_SECONDS = 60;
const SCAN_TIMEOUT_MS = 10 * 60_000;
/** Never ends; writes a file when all that it imports is there. */
const PAYLOAD = ['python3', '-c', 'import json, time; open("/tmp/ready", "w"); time.sleep(1e6)'];

const OCI_RUN_STOP = "systemctl stop 'sharing-*.service'";

function ociPull(format: 'tree' | 'composefs'): SharingPeer {
  const store = `${STORE}/oci-${format}`;
  return {
    name: `oci-pull ${format}`,
    version: 'oci-pull --version',
    pull: `oci-pull --quiet --root ${store} --store-format ${format} "docker://$1"`,
    start: `oci-run --quiet --detach --root ${store} --name "sharing-$2" "docker://$1" "\${@:3}"`,
    stop: OCI_RUN_STOP,
    clean: `rm -rf ${store}`,
    store,
  };
}

/** By a configuration of its own: options that name a store turn off what that says about the driver. */
function podman(name: string, directory: string, driver: string): SharingPeer {
  const store = `${STORE}/${directory}`;
  const command = `CONTAINERS_STORAGE_CONF=/run/${directory}.conf podman`;
  return {
    name,
    version: 'podman --version',
    prepare: `cat >/run/${directory}.conf <<'CONF'
[storage]
driver = "overlay"
graphroot = "${store}"
runroot = "/run/${directory}"
${driver}
CONF
`,
    pull: `${command} pull --quiet "$1"`,
    start: `${command} run --quiet --detach --network none "$1" "\${@:3}"`,
    stop: `${command} rm --all --force --time 0`,
    clean: `${command} rmi --all --force
      if mountpoint -q ${store}/overlay; then umount ${store}/overlay; fi
      rm -rf ${store}`,
    store,
  };
}

/** Objects that are here are linked, and every layer becomes a composefs image, as such a system would be set up. */
const COMPOSEFS = `[storage.options]
pull_options = {enable_partial_images = "true", use_hard_links = "true", convert_images = "true", ostree_repos = ""}
[storage.options.overlay]
use_composefs = "true"`;

export const SHARING_PEERS: readonly SharingPeer[] = [
  ociPull('tree'),
  ociPull('composefs'),
  podman('podman', 'podman', ''),
  podman('podman composefs', 'podman-composefs', COMPOSEFS),
  {
    name: 'importctl',
    version: 'importctl --version',
    pull: 'importctl --quiet --class=machine pull-oci "$1" "near-$2"',
    start: `systemd-run --quiet --unit="sharing-$2" --property=RootMStack="/var/lib/machines/near-$2.mstack" \
      --property=PrivateTmp=yes "\${@:3}"`,
    stop: OCI_RUN_STOP,
    clean: `cd ${STORE}/machines; chattr -f -i -- .oci-* || true; find . -mindepth 1 -delete`,
    store: `${STORE}/machines`,
    services: ['systemd-importd.service'],
  },
];

/** Pulls `count` images into an empty store, starts a container of each, and removes everything. */
export async function measureSharing(
  machine: Machine,
  peer: SharingPeer,
  image: string,
  count: number,
): Promise<SharingResult> {
  const bash = async (script: string, ...args: string[]): Promise<string> =>
    stdoutOf(await machine.run(['bash', '-euc', script, 'bash', ...args], { timeoutMs: SCAN_TIMEOUT_MS }));
  const disk = async () =>
    Number(await bash(`sync --file-system ${STORE}; du -s -B1 ${peer.store} | cut -f1`));
  const reference = (number: number) => `${REGISTRY}/near/${image}:${number}`;

  await bash(`${peer.prepare ?? ''}
    ${peer.clean}`);
  const pulls: Pull[] = [];
  let firstDiskBytes = 0;
  for (let number = 1; number <= count; number++) {
    await bash(`: >${REGISTRY_LOG}`);
    const args = [reference(number), `${number}`];
    const { wallSeconds, cpuSeconds } = await measure(machine, peer.pull, args, peer.services);
    pulls.push({ wallSeconds, cpuSeconds, sentBytes: sentBytes(await bash(`cat ${REGISTRY_LOG}`)) });
    if (number === 1) firstDiskBytes = await disk();
  }
  const diskBytes = await disk();

  await bash(EMPTY_CACHE);
  for (let number = 1; number <= count; number++)
    await bash(peer.start, reference(number), `${number}`, ...PAYLOAD);
  const pssBytes = await pssOfPayloads(bash, count);
  const cachedBytes = Number(await bash(CACHED, peer.store));
  await bash(peer.stop);
  await bash(peer.clean);
  return { image, peer: peer.name, pulls, firstDiskBytes, diskBytes, cachedBytes, pssBytes };
}

/** Of an access log as Apache's servers write it: without headers, and what encryption adds. */
function sentBytes(log: string): number {
  return [...log.matchAll(/" \d{3} (\d+) "/g)].reduce((sum, [, bytes]) => sum + Number(bytes), 0);
}

/** A file system that is mounted anew has nothing in the page cache. */
const EMPTY_CACHE = `
  systemctl --quiet stop containerd systemd-importd
  for directory in /var/tmp /var/lib/machines /var/lib/containerd; do umount "$directory"; done
  umount --recursive ${STORE}
  mount -o loop,discard /run/bench-disk/image ${STORE}
  mount --bind ${STORE}/tmp /var/tmp
  mount --bind ${STORE}/machines /var/lib/machines
  mount --bind ${STORE}/containerd /var/lib/containerd
  systemctl start systemd-importd`;

/** Each file once, whatever its number of names. Looking does not read: fincore(1) maps files and asks mincore(2). */
const CACHED = `
  find "$1" -xdev -type f -size +0 -printf '%i %p\\0' | sort -z -u -n -k 1,1 | cut -z -d ' ' -f 2- |
    xargs -0 fincore --bytes --noheadings --raw --output RES | awk '{ sum += $1 } END { print sum + 0 }'`;

async function pssOfPayloads(bash: (script: string) => Promise<string>, count: number): Promise<number> {
  const deadline = Date.now() + MAX_START_SECONDS * 1000;
  for (;;) {
    const pids = (await bash("pgrep --full '^python3 -c import json' || true")).split('\n').filter(Boolean);
    const ready = Number(
      await bash(
        `for pid in ${pids.join(' ')}; do ls /proc/$pid/root/tmp/ready 2>/dev/null || true; done | wc -l`,
      ),
    );
    if (ready === count)
      return Number(
        await bash(
          `cat ${pids.map((pid) => `/proc/${pid}/smaps_rollup`).join(' ')} | awk '/^Pss:/ { sum += $2 } END { print sum * 1024 }'`,
        ),
      );
    if (Date.now() > deadline) throw new Error(`${ready} of ${count} containers run`);
    await sleep(200);
  }
}

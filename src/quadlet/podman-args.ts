/** PodmanArgs=: the options of podman-run(1) that are options of ours with the same meaning. Pure. */
import { type Outcome, refused } from './outcome.ts';

const VALUED = new Set(
  (
    'add-host cap-add cap-drop cpu-shares cpus cpuset-cpus cpuset-mems device dns dns-option dns-search entrypoint env ' +
    'group-add hostname ip label memory memory-reservation memory-swap pids-limit publish restart shm-size ' +
    'stop-signal stop-timeout sysctl tmpfs ulimit user workdir'
  ).split(' '),
);
const FLAGS = new Set(['init', 'read-only']);
const SHORT: Readonly<Record<string, string>> = {
  '-e': 'env',
  '-l': 'label',
  '-m': 'memory',
  '-p': 'publish',
  '-u': 'user',
  '-w': 'workdir',
};

/** Takes one option from the front of the words: what it is here, and how many words it was. */
export function takePodmanArgument(words: readonly string[]): { outcome: Outcome; length: number } {
  const [word = '', next] = words;
  const [, typed = '', value] = /^(-[a-z]|--[a-z0-9-]+)(?:=(.*))?$/s.exec(word) ?? [];
  const name = SHORT[typed] ?? typed.replace(/^--/, '');
  if (typed !== '' && FLAGS.has(name) && value === undefined) return { outcome: [`--${name}`], length: 1 };
  if (typed !== '' && VALUED.has(name)) {
    if (value !== undefined) return { outcome: [`--${name}=${value}`], length: 1 };
    if (next !== undefined) return { outcome: [`--${name}=${next}`], length: 2 };
  }
  if (typed === '--tz' && (value ?? next) !== undefined)
    return { outcome: [`--env=TZ=${value ?? next}`], length: value === undefined ? 2 : 1 };
  // the words after an option that is not known may be its values
  const values = words.slice(1).findIndex((each) => each.startsWith('-'));
  const length = typed === '' || value !== undefined ? 1 : values < 0 ? words.length : values + 1;
  const what = typed === '' ? word.slice(0, 40) : typed;
  return { outcome: refused(`${what} is no option of podman that means the same here`), length };
}

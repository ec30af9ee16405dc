/**
 * linux.sysctl: only what belongs to a namespace of the container's. The setup unit writes it inside those namespaces.
 */
import { quote } from '../oci/errors.ts';
import type { RuntimeSpec } from '../oci/runtime-spec.ts';
import { type NamespacePlan, planNamespaces } from './namespaces.ts';
import { refusal } from './refuse.ts';

/** Settings by namespace; anything else is the host's. */
const NAMESPACED: readonly [RegExp, Sysctl['namespace']][] = [
  [/^net\./, 'network'],
  [/^kernel\.(msgmax|msgmnb|msgmni|sem|shmall|shmmax|shmmni|shm_rmid_forced)$/, 'ipc'],
  [/^fs\.mqueue\./, 'ipc'],
  [/^kernel\.domainname$/, 'uts'],
];

export interface Sysctl {
  namespace: 'network' | 'ipc' | 'uts';
  /** Whose root may write it: what the container joins belongs to the host. */
  by: 'container' | 'host';
  /** Below /proc/sys. */
  path: string;
  value: string;
}

export function sysctls(spec: RuntimeSpec): Sysctl[] {
  const plan = planNamespaces(spec.linux);
  return Object.entries(spec.linux.sysctl ?? {}).map(([name, value]) => {
    const place = placeOf(name, plan);
    if (/[\x00-\x08\x0a-\x1f\x7f]/.test(value))
      throw refusal(
        `linux.sysctl[${quote(name)}]`,
        'its value holds a control character',
        'Write the value in one line.',
      );
    return { ...place, value };
  });
}

function placeOf(name: string, plan: NamespacePlan): Omit<Sysctl, 'value'> {
  const field = `linux.sysctl[${quote(name)}]`;
  // as sysctl(8): where the first separator is a slash, slashes separate and dots are part of a name
  const [, separator = '.'] = /^[^./]*([./])/.exec(name) ?? [];
  const parts = name.split(separator);
  const dotted = separator === '.' ? name : parts.map((part) => part.replaceAll('.', '/')).join('.');
  if (
    parts.length < 2 ||
    parts.some((part) => !/^[A-Za-z0-9_:@/.-]+$/.test(part) || /^\.|^\/|\/$/.test(part))
  )
    throw refusal(field, 'it is no name of a setting', 'Write it as net.core.somaxconn.');
  const namespace = NAMESPACED.find(([pattern]) => pattern.test(dotted))?.[1];
  if (namespace === undefined)
    throw refusal(
      field,
      'it belongs to the whole host',
      `Set it on the host with: sysctl -w ${JSON.stringify(name)}.`,
    );
  // a namespace that is joined by path is the container's as far as its bundle says so
  if (plan[namespace] === 'host')
    throw refusal(
      field,
      `the container has no ${namespace} namespace of its own`,
      `Set it where that namespace is made, or give the container its own.`,
    );
  const path = separator === '.' ? parts.map((part) => part.replaceAll('/', '.')).join('/') : parts.join('/');
  return { namespace, by: namespace === 'uts' || plan[namespace] !== 'own' ? 'host' : 'container', path };
}

/**
 * hooks: those of the runtime namespace, run by the setup unit and its undoing as root of the host, with the state
 * on standard input (runtime.md). Those that run inside the container, or after its start, have no place in a unit
 * whose first process is the payload.
 */
import type { Hook, RuntimeSpec } from '../oci/runtime-spec.ts';
import type { UnitContext } from './context.ts';
import { shellWord, shellWords } from './shell.ts';

/** Lines for the end of the setup; `$holder` is a process in the container's namespaces. */
export function setupHooks(spec: RuntimeSpec, context: UnitContext): string[] {
  const hooks = [...(spec.hooks?.prestart ?? []), ...(spec.hooks?.createRuntime ?? [])];
  return hooks.map(
    (hook) => `${call(hook, spec, context, 'creating')} ||\n  fail ${shellWord(`hook ${hook.path} failed`)}`,
  );
}

/** Lines for the teardown: a hook that fails is no reason to leave anything behind. */
export function teardownHooks(spec: RuntimeSpec, context: UnitContext): string[] {
  return (spec.hooks?.poststop ?? []).map(
    (hook) =>
      `${call(hook, spec, context, 'stopped')} ||\n  echo ${shellWord(`hook ${hook.path} failed`)} >&2`,
  );
}

function call(hook: Hook, spec: RuntimeSpec, context: UnitContext, status: 'creating' | 'stopped'): string {
  const state = JSON.stringify({
    ociVersion: spec.ociVersion,
    id: context.unit,
    status,
    bundle: context.sourceBundle ?? context.bundleDir,
    annotations: spec.annotations,
  });
  const text = status === 'creating' ? `'{"pid":'"$holder,"${shellWord(state.slice(1))}` : shellWord(state);
  const limit = hook.timeout === undefined ? [] : ['timeout', String(hook.timeout)];
  const command = shellWords([
    'env',
    '-i',
    ...(hook.env ?? []),
    ...limit,
    hook.path,
    ...(hook.args ?? []).slice(1),
  ]);
  return `printf %s ${text} | ${command}`;
}

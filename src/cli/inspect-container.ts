/** ocictl inspect of a container: what it is, what it has of the host, and how it does. */
import { formatPort } from '../bundle/network.ts';
import { type ContainerRecord, containerState } from '../containers.ts';
import type { Output } from './output.ts';

/** As JSON with its whole bundle. */
export async function inspectContainer(container: ContainerRecord, output: Output): Promise<void> {
  const { connectManager } = await import('../systemd/manager.ts');
  const manager = await connectManager();
  try {
    const state = await containerState(container, manager);
    const { spec, directory } = container;
    if (output.json) return output.value({ ...state, directory, config: spec });
    const { process, mounts, root } = spec;
    output.facts([
      ['Unit', `${state.unit}.service`],
      ['Image', state.image],
      ['Digest', state.digest],
      ['State', state.state],
      ['Health', state.health?.status],
      ['Process', state.pid === 0 ? undefined : String(state.pid)],
      ['Started', state.started],
      ['Command', state.command.join(' ')],
      ['User', `${process.user.uid}:${process.user.gid}`],
      ['Working directory', process.cwd],
      ['Host name', spec.hostname],
      ['Root', root.readonly === true ? 'read-only' : undefined],
      ...state.addresses.map((address): [string, string] => ['Address', address]),
      ...state.ports.map((port): [string, string] => ['Port', formatPort(port)]),
      ...mounts
        .filter(({ source }) => source?.startsWith('/'))
        .map(({ source, destination }): [string, string] => ['Mount', `${source} on ${destination}`]),
      ...process.env.map((line): [string, string] => ['Environment', line]),
      ['Directory', directory],
    ]);
  } finally {
    manager.close();
  }
}

/** oci-pull: brings an image into the store. stdout ends with the manifest digest; oci-pull(1). */
import { type Command, Option } from 'commander';
import type { PullPolicy } from '../pull.ts';
import { interruptSignal } from './interrupt.ts';
import { outputFor, runProgram } from './main.ts';
import {
  type CommonOptions,
  commonOptions,
  createStoreFromOptions,
  noteStoreFormat,
  type RegistryOptions,
  registryOptions,
  type StoreFormatOptions,
  sourceOptionsFrom,
  storeFormatFrom,
  storeFormatOption,
  waitingFrom,
} from './options.ts';
import { createProgress } from './progress.ts';

type PullCommandOptions = CommonOptions & RegistryOptions & StoreFormatOptions & { policy: PullPolicy };

export function buildPull(program: Command): void {
  program
    .description('Bring an image into the store')
    .argument('<ref>', 'fedora, quay.io/x/y:tag, docker://…, oci:DIR[:TAG], …')
    .argument('[name]', 'the name it gets in the store (default: its full reference)');
  registryOptions(program);
  program.addOption(
    new Option(
      '--policy <policy>',
      'always: ask the registry; missing: only when the image is not here; newer: as always, but go on without an answer',
    )
      .choices(['always', 'missing', 'newer'])
      .default('always'),
  );
  program.addOption(storeFormatOption());
  commonOptions(program);
  program.action((ref: string, name: string | undefined, options: PullCommandOptions) =>
    pull(program, ref, name, options),
  );
}

async function pull(
  program: Command,
  ref: string,
  name: string | undefined,
  options: PullCommandOptions,
): Promise<void> {
  const output = outputFor(program);
  const signal = interruptSignal();
  const [{ pullImage }, { platformFrom }] = await Promise.all([
    import('../pull.ts'),
    import('../find-image.ts'),
  ]);
  const { store, places } = await createStoreFromOptions(options);
  const progress = createProgress(output);
  try {
    const pulled = await pullImage({
      store,
      name: ref,
      ...(name === undefined ? {} : { localName: name }),
      policy: options.policy,
      ...storeFormatFrom(options, places),
      platform: platformFrom(options.platform),
      source: await sourceOptionsFrom(options, output.note),
      ...(options.jobs === undefined ? {} : { jobs: options.jobs }),
      waiting: waitingFrom(options, output, signal),
      signal,
      onEvent: progress.onEvent,
    });
    progress.close();
    const { digest, image, stored } = pulled;
    noteStoreFormat(options, pulled, output.note);
    if (output.json) output.value({ digest, name: pulled.name, stored, directory: image.directory });
    else {
      output.note(stored ? `stored as ${pulled.name}` : `${pulled.name} is up to date`);
      output.line(digest);
    }
  } finally {
    progress.close();
  }
}

if (import.meta.main) void runProgram('oci-pull', buildPull);

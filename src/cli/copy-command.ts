/** ocictl cp: files and directories out of a running container, and into it. */
import { writeSync } from 'node:fs';
import type { Command } from 'commander';
import type { CopyRequest } from '../copy.ts';
import { OciError } from '../oci/errors.ts';
import type { CommonOptions } from './options.ts';
import { type Context, withManager } from './with-manager.ts';

export function copyCommand(program: Command): void {
  program
    .command('cp <source> <destination>')
    .description('copy files between a running container, UNIT:PATH, and the host')
    .option('-a, --archive', 'keep the owners')
    .action(withManager(copy));
}

async function copy(
  { options, output, runRoot, manager }: Context<CommonOptions & { archive?: boolean }>,
  source: string,
  destination: string,
): Promise<void> {
  const ends = parseEnds(source, destination);
  const [{ requireContainer }, { copyFiles }] = await Promise.all([
    import('../containers.ts'),
    import('../copy.ts'),
  ]);
  const leftOut = await copyFiles(
    {
      ...ends,
      container: requireContainer(runRoot, ends.unit),
      archive: options.archive ?? false,
      input: process.stdin,
      write: writeToStdout,
    },
    manager,
  );
  if (leftOut > 0) output.note(`left out: ${leftOut} (devices, fifos, sockets, files of the kernel)`);
}

type Ends = Pick<CopyRequest, 'direction' | 'source' | 'destination'> & { unit: string };

/** One of both is UNIT:PATH. A path of the host that has a colon is written with a slash before it. */
export function parseEnds(source: string, destination: string): Ends {
  const [from, to] = [source, destination].map((text) => /^([A-Za-z0-9_][A-Za-z0-9_.@-]*):(.*)$/s.exec(text));
  if (from && !to && from[2] !== '')
    return { direction: 'out', unit: from[1]!, source: from[2]!, destination };
  if (to && !from && to[2] !== '') return { direction: 'in', unit: to[1]!, source, destination: to[2]! };
  throw new OciError('USAGE', 'one of source and destination is in a container, as UNIT:PATH', {
    hint: 'Write it as ocictl cp web:/etc/nginx . or ocictl cp ./index.html web:/usr/share/nginx/html/.',
  });
}

/** All of it, before it returns: what is read is not faster than what is written. */
function writeToStdout(bytes: Buffer): void {
  for (let done = 0; done < bytes.length; ) {
    try {
      done += writeSync(1, bytes, done);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EPIPE') process.exit(0); // nobody wants the rest
      if (code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}

/** The grammar of `-v HOST:CONTAINER[:OPTIONS]` (podman-run(1), --volume), for bind mounts of host directories. */
import { OciError, quote } from '../oci/errors.ts';
import type { Mount } from '../oci/runtime-spec.ts';

const OPTIONS = new Set(['ro', 'rw', 'rbind', 'bind']);

/** Throws USAGE for a bad form, UNSUPPORTED for options and volume kinds that cannot be honoured. */
export function parseVolume(text: string): Mount {
  const usage = (why: string) =>
    new OciError('USAGE', `--volume: ${quote(text)} ${why}`, {
      hint: 'Write it as --volume /HOST/DIR:/CONTAINER/DIR[:ro].',
    });
  const parts = text.split(':');
  const [source = '', destination = '', optionText = ''] = parts;
  if (parts.length < 2 || parts.length > 3 || source === '' || destination === '')
    throw usage('is not HOST:CONTAINER');
  if (!destination.startsWith('/')) throw usage('names a container path that is not absolute');
  if (destination.split('/').includes('..')) throw usage("holds '..' in the container path");
  if (/^\/+\.?\/*$/.test(destination)) throw usage('would cover the whole container');
  if (!source.startsWith('/'))
    throw new OciError('UNSUPPORTED', `--volume: named volumes such as ${quote(source)} are not there yet`, {
      hint: 'Give the absolute path of a directory of the host.',
    });
  const options = optionText === '' ? [] : optionText.split(',');
  for (const option of options)
    if (!OPTIONS.has(option))
      throw new OciError(
        'UNSUPPORTED',
        `--volume: option ${quote(option)} of ${quote(text)} cannot be honoured`,
        {
          hint: 'Use ro, rw, bind or rbind.',
        },
      );
  if (options.includes('ro') && options.includes('rw')) throw usage('is both ro and rw');
  const propagation = options.includes('bind') ? 'bind' : 'rbind';
  return { destination, type: 'bind', source, options: [propagation, options.includes('ro') ? 'ro' : 'rw'] };
}

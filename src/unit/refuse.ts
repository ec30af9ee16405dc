/** How the translation says no: by the field's name, with the reason and a way out. */
import { OciError } from '../oci/errors.ts';

const FILE = 'config.json: ';

export function refusal(field: string, why: string, hint: string): OciError {
  return new OciError('UNSUPPORTED', `${FILE}${field} cannot be honoured: ${why}`, { hint });
}

/** What options of oci-run become, as it begins, and how the user knows it. */
const OPTIONS: readonly { field: RegExp; option: string; hint?: string }[] = [
  { field: /^linux\.uidMappings/, option: '--userns', hint: 'Write it as --userns 1048576:65536.' },
  { field: /^linux\.sysctl\[(.*)\](?= cannot)/, option: '--sysctl $1' },
  { field: /^process\.rlimits/, option: '--ulimit' },
  { field: /^the mount at/, option: 'the mount at' },
];

/** The same where no config.json of the user's says it, but an option. */
export function inWordsOfOptions(error: unknown): unknown {
  if (!(error instanceof OciError && error.message.startsWith(FILE))) return error;
  const message = error.message.slice(FILE.length);
  const found = OPTIONS.find(({ field }) => field.test(message));
  if (found === undefined) return error;
  return new OciError('USAGE', message.replace(found.field, found.option), {
    hint: found.hint ?? error.hint,
    cause: error,
  });
}

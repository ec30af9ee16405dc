/** --credential and --credential-encrypted: what systemd hands to the container (systemd.exec(5), "Credentials"). */
import type { Credential } from '../oci/credential.ts';
import { OciError, quote } from '../oci/errors.ts';

const HINT = 'Write it as NAME:FILE, NAME=VALUE, or NAME for one that the system has.';

/** `NAME[:PATH]`, `NAME=VALUE`. */
export function parseCredential(text: string): Credential {
  const [, name = '', separator, value = ''] = /^([A-Za-z0-9_.-]+)(?:([:=])(.*))?$/s.exec(text) ?? [];
  if (separator === '=' && isName(name)) return { name, value };
  return loaded('--credential', text, name, value, separator === ':');
}

/** `NAME[:PATH]`, of what systemd-creds(1) encrypted. */
export function parseEncryptedCredential(text: string): Credential {
  const [, name = '', separator, path = ''] = /^([A-Za-z0-9_.-]+)(?:(:)(.*))?$/s.exec(text) ?? [];
  return {
    ...loaded('--credential-encrypted', text, name, path, separator !== undefined),
    encrypted: true,
  };
}

function loaded(option: string, text: string, name: string, path: string, hasPath: boolean): Credential {
  if (!isName(name) || (hasPath && !/^\/[^\s\x00-\x1f\x7f"'\\:%]+$/.test(path)))
    throw new OciError('USAGE', `${option}: ${quote(text.replace(/=.*$/s, '=…'))} is no credential`, {
      hint: HINT,
    });
  return { name, path: hasPath ? path : name };
}

/** A file name that is no hidden one. */
function isName(name: string): boolean {
  return /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/.test(name);
}

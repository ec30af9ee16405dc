/**
 * The one error class of the project, with its union of codes and their exit statuses (sysexits(3)).
 *
 * Invariant: a message never carries a raw control character, a credential or an unbounded foreign text; build
 * the foreign parts with quote(). Layers of a story prefix the message with wrap(): "pull 'fedora': fetch
 * manifest: …".
 */

/** Every failure the programs can report, with its exit status. */
export const EXIT_STATUS = {
  USAGE: 64, // the command line is wrong
  DIGEST_MISMATCH: 65, // bytes do not match their digest
  SIZE_MISMATCH: 65, // bytes do not match their size
  BAD_ARCHIVE: 65, // a layer that is not a valid archive, or that tries to leave its tree
  BAD_IMAGE: 65, // manifest, index or configuration that the specification forbids
  BAD_UNIT_FILE: 65, // a Quadlet file that is no unit file, or asks for what cannot be honoured
  BAD_SIGNATURE: 65, // a signature that is none, was changed, or is of another image
  IMAGE_NOT_FOUND: 66, // no such image or tag, here or in the registry
  INPUT_NOT_FOUND: 66, // a file the user named does not exist
  UNAVAILABLE: 69, // no service behind it: registry refused the connection, no systemd
  UNSUPPORTED: 69, // platform, media type or systemd feature that is not there
  INTERNAL: 70, // a defect of ours
  OS_ERROR: 71, // a system call failed
  EXISTS: 73, // unit or name exists
  IO_ERROR: 74, // reading or writing failed, disk full
  BUSY: 75, // somebody holds the lock
  TEMPORARY: 75, // time-out, 429, 5xx: try again later
  PROTOCOL: 76, // the peer does not speak the protocol
  DENIED: 77, // authentication, permission or policy
  CONFIG: 78, // a configuration file is wrong
  COMMAND_CANNOT_RUN: 126, // as chroot(1) and podman
  COMMAND_NOT_FOUND: 127,
} as const;

export type ErrorCode = keyof typeof EXIT_STATUS;

/** For an error that comes without a hint of its own. */
const GENERAL_HINTS: Readonly<Record<ErrorCode, string>> = {
  USAGE: 'See --help.',
  DIGEST_MISMATCH: 'Pull again, and tell whoever runs the registry if it stays so.',
  SIZE_MISMATCH: 'Pull again, and tell whoever runs the registry if it stays so.',
  BAD_ARCHIVE: 'Tell whoever made the image, or use another tag.',
  BAD_IMAGE: 'Tell whoever made the image, or use another tag.',
  BAD_UNIT_FILE: 'Correct the file.',
  BAD_SIGNATURE: 'Sign the image again with ocictl sign, or ask its signer for another file.',
  IMAGE_NOT_FOUND: 'Check the name. List what is here with ocictl images.',
  INPUT_NOT_FOUND: 'Check the path.',
  UNAVAILABLE: 'Check that the service runs and can be reached.',
  UNSUPPORTED: 'Use another image, or a newer system.',
  INTERNAL: 'Report this defect of ocictl, with the lines below.',
  OS_ERROR: 'See the kernel log for the reason: journalctl -k',
  EXISTS: 'Choose another name, or remove the old one first.',
  IO_ERROR: 'Check the disk and the kernel log: journalctl -k',
  BUSY: 'Try again later.',
  TEMPORARY: 'Try again later.',
  PROTOCOL: 'Tell whoever runs the registry.',
  DENIED: 'Check your permissions, or log in with ocictl login.',
  CONFIG: 'Correct the file.',
  COMMAND_CANNOT_RUN: 'Name another command.',
  COMMAND_NOT_FOUND: 'Name another command.',
};

export interface OciErrorOptions {
  /** One imperative sentence, with the command to type where there is one. Default: a general one for the code. */
  hint?: string;
  /** More lines for --verbose and --json: what the peer said, capped. */
  detail?: string;
  /** Of BUSY: the containers that are in the way, if nothing else is. */
  containers?: readonly string[];
  cause?: unknown;
}

export class OciError extends Error {
  readonly code: ErrorCode;
  readonly hint: string;
  readonly detail: string | undefined;
  readonly containers: readonly string[];

  constructor(code: ErrorCode, message: string, options: OciErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'OciError';
    this.code = code;
    this.hint = options.hint ?? GENERAL_HINTS[code];
    this.detail = options.detail;
    this.containers = options.containers ?? [];
  }

  get exitStatus(): number {
    return EXIT_STATUS[this.code];
  }
}

/** Puts `prefix: ` before an error's message and keeps code, hint and detail. Foreign errors become INTERNAL or IO_ERROR. */
export function wrap(prefix: string, error: unknown): OciError {
  const inner = toOciError(error);
  return new OciError(inner.code, `${prefix}: ${inner.message}`, {
    hint: inner.hint,
    ...(inner.detail === undefined ? {} : { detail: inner.detail }),
    cause: error,
  });
}

/** Any thrown value as an OciError: errno errors become IO_ERROR (ENOSPC and EACCES with a hint), the rest INTERNAL. */
export function toOciError(error: unknown): OciError {
  if (error instanceof OciError) return error;
  if (!(error instanceof Error)) return new OciError('INTERNAL', escapeControl(String(error)));
  const errno = (error as NodeJS.ErrnoException).code;
  const message = escapeControl(error.message).slice(0, MESSAGE_MAX_CHARS);
  if (errno === 'ENOSPC' || errno === 'EDQUOT')
    return new OciError('IO_ERROR', message, {
      hint: 'Free some disk space and run the command again.',
      cause: error,
    });
  if (errno === 'EACCES' || errno === 'EPERM')
    return new OciError('DENIED', message, { hint: 'Run the command as root.', cause: error });
  if (errno === 'EROFS')
    return new OciError('IO_ERROR', message, {
      hint: 'Mount the file system so that it can be written; for that of the store, name another with --root.',
      cause: error,
    });
  if (typeof errno === 'string' && /^E[A-Z0-9]+$/.test(errno))
    return new OciError('IO_ERROR', message, { cause: error });
  return new OciError('INTERNAL', message, { cause: error });
}

const MESSAGE_MAX_CHARS = 2000;
const QUOTE_MAX_CHARS = 300;

/** A foreign text in single quotes, control and bidi characters escaped, cut at 300 characters. */
export function quote(text: string): string {
  const cut = text.length > QUOTE_MAX_CHARS ? `${text.slice(0, QUOTE_MAX_CHARS)}…` : text;
  return `'${escapeControl(cut)}'`;
}

/** C0, DEL, C1, line separators and bidirectional overrides. */
export const CONTROL_CHARACTERS = /[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** Control characters as \\xNN or \\u{…}. */
export function escapeControl(text: string): string {
  return text.replace(CONTROL_CHARACTERS, (c) => {
    const point = c.codePointAt(0) ?? 0;
    return point < 256 ? `\\x${point.toString(16).padStart(2, '0')}` : `\\u{${point.toString(16)}}`;
  });
}

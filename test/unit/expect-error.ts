/** assert.throws for OciError: the code, a part of the message, and that a hint is there. */
import assert from 'node:assert/strict';
import { type ErrorCode, OciError } from '../../src/oci/errors.ts';

export function throwsOci(action: () => unknown, code: ErrorCode, part: string | RegExp): void {
  assert.throws(action, (error) => isOci(error, code, part));
}

export async function rejectsOci(
  action: Promise<unknown>,
  code: ErrorCode,
  part: string | RegExp,
): Promise<void> {
  await assert.rejects(action, (error) => isOci(error, code, part));
}

function isOci(error: unknown, code: ErrorCode, part: string | RegExp): boolean {
  assert.ok(error instanceof OciError, `not an OciError: ${error}`);
  assert.equal(error.code, code, error.message);
  if (typeof part === 'string') assert.ok(error.message.includes(part), `${error.message} lacks ${part}`);
  else assert.match(error.message, part);
  assert.ok(error.hint, `no hint: ${error.message}`);
  return true;
}

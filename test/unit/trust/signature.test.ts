/** Signatures of images: what is accepted, and that whatever was changed is not; openssl(1) as a second opinion. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { parseDigest } from '../../../src/oci/digest.ts';
import { EXIT_STATUS, OciError } from '../../../src/oci/errors.ts';
import { judge } from '../../../src/trust/judge.ts';
import { parseSignature, parseTrustedKey, signImage } from '../../../src/trust/signature.ts';
import { throwsOci } from '../expect-error.ts';

function keyPair(type: 'ed25519' | 'x25519' = 'ed25519') {
  const pair = type === 'ed25519' ? generateKeyPairSync('ed25519') : generateKeyPairSync('x25519');
  const { privateKey, publicKey } = pair;
  return {
    private: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    public: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
  };
}

const image = { image: `sha256:${'a'.repeat(64)}`, config: parseDigest(`sha256:${'b'.repeat(64)}`) };
const other = { ...image, image: `sha256:${'c'.repeat(64)}` };
const otherConfig = { ...image, config: parseDigest(`sha256:${'d'.repeat(64)}`) };
const ours = keyPair();
const theirs = keyPair();
const trusted = [parseTrustedKey(theirs.public, 'their.pem'), parseTrustedKey(ours.public, 'our.pem')];
const text = signImage(image, ours.private, 'key.pem');
const [onlyOurs] = trusted.slice(1);

const judged = (texts: readonly string[], keys = trusted, what = image) =>
  judge(
    what,
    "'web'",
    texts.map((each, i) => ({ name: `s${i}`, text: each })),
    keys,
  );

const directory = mkdtempSync(join(tmpdir(), 'oci-signature-'));
after(() => rmSync(directory, { recursive: true }));

test('the key that signed is found', () => {
  assert.equal(judged([text]).name, 'our.pem');
  assert.equal(judged(['junk', text]).name, 'our.pem', 'one good signature is enough');
});

test('the same image and key, the same text', () => assert.equal(signImage(image, ours.private, 'k'), text));

test('openssl agrees', () => {
  const at = (name: string) => join(directory, name);
  writeFileSync(at('public.pem'), ours.public);
  writeFileSync(at('said'), `${text.split('\n').slice(0, 3).join('\n')}\n`);
  writeFileSync(at('sig'), Buffer.from(text.trimEnd().split('\n').at(-1)!, 'base64'));
  const words = ['pkeyutl', '-verify', '-pubin', '-inkey', at('public.pem'), '-rawin', '-in', at('said')];
  const verdict = spawnSync('openssl', [...words, '-sigfile', at('sig')], { encoding: 'utf8' });
  assert.equal(verdict.status, 0, verdict.stderr);
});

test('refused: none, and that of a key that is not trusted (77)', () => {
  assert.equal(EXIT_STATUS.DENIED, 77);
  throwsOci(() => judged([]), 'DENIED', /image 'web' has no signature/);
  throwsOci(
    () => judged([text], trusted.slice(0, 1)),
    'DENIED',
    /signed by sha256:[0-9a-f]{64}, which is no trusted key/,
  );
});

test('refused: of another image, of another configuration, changed, swapped (65)', () => {
  assert.equal(EXIT_STATUS.BAD_SIGNATURE, 65);
  throwsOci(() => judged([text], trusted, other), 'BAD_SIGNATURE', /'s0' signs another image: its image is/);
  throwsOci(
    () => judged([text], trusted, otherConfig),
    'BAD_SIGNATURE',
    /'s0' signs another image: its config is/,
  );
  // edited to fit, the signature's bytes left
  const edited = text.replace(image.image, other.image);
  throwsOci(() => judged([edited], trusted, other), 'BAD_SIGNATURE', /'s0' is not what 'our\.pem' signed/);
  const editedConfig = text.replace(image.config, otherConfig.config);
  throwsOci(() => judged([editedConfig], trusted, otherConfig), 'BAD_SIGNATURE', /is not what/);
  // the bytes of another signature by the same key
  const bytes = signImage(other, ours.private, 'k').split('\n')[4]!;
  const swapped = text.replace(text.split('\n')[4]!, bytes);
  throwsOci(() => judged([swapped]), 'BAD_SIGNATURE', /is not what/);
  // made by another key, which says it is ours
  const posed = signImage(image, theirs.private, 'k').replace(/key .*/, `key ${onlyOurs!.id}`);
  throwsOci(() => judged([posed]), 'BAD_SIGNATURE', /is not what 'our\.pem' signed/);
});

test('refused: every single changed byte, and every cut', () => {
  for (let at = 0; at < text.length; at++) {
    const changed = `${text.slice(0, at)}${text[at] === 'f' ? 'e' : 'f'}${text.slice(at + 1)}`;
    assert.throws(
      () => judged([changed]),
      (error) => error instanceof OciError,
      `byte ${at}`,
    );
    throwsOci(() => judged([text.slice(0, at)]), 'BAD_SIGNATURE', /is no signature of an image/);
  }
});

test('refused: texts that are none', () => {
  const bad = [
    '',
    '\0',
    `${text}\n`,
    ` ${text}`,
    text.replaceAll('\n', '\r\n'),
    text.toUpperCase(),
    `${text}${text}`,
  ];
  // base64 that decodes to the same bytes
  const loose = text.replace(
    /(.)==\n$/,
    (_, last: string) => `${String.fromCharCode(last.charCodeAt(0) + 1)}==\n`,
  );
  for (const each of [...bad, loose])
    throwsOci(() => parseSignature(each, 'f'), 'BAD_SIGNATURE', /'f' is no signature/);
});

test('keys: only public ones are trusted, only private ones sign, only Ed25519; nothing of a key is said', () => {
  const x25519 = keyPair('x25519');
  for (const pem of [ours.private, x25519.public, '', 'junk'])
    throwsOci(
      () => parseTrustedKey(pem, 'k'),
      'CONFIG',
      /^'k' is no public Ed25519 key in PEM without a passphrase$/,
    );
  const broken = ours.private.replace('MC4', 'MD4');
  for (const pem of [ours.public, x25519.private, broken, '']) {
    throwsOci(
      () => signImage(image, pem, 'k'),
      'USAGE',
      /^'k' is no private Ed25519 key in PEM without a passphrase$/,
    );
    assert.throws(
      () => signImage(image, pem, 'k'),
      (error: Error) =>
        error.cause === undefined && !JSON.stringify(error).includes(ours.private.slice(40, 60)),
    );
  }
});

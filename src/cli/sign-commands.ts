/** ocictl sign and verify: who vouches for an image. */
import { closeSync, writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import { OciError, quote } from '../oci/errors.ts';
import type { StoredImage } from '../store/images.ts';
import type { Store } from '../store/store.ts';
import { outputFor } from './main.ts';
import { type CommonOptions, openStoreFromOptions, type Places, waitingFrom } from './options.ts';

interface SignOptions extends CommonOptions {
  readonly key?: string;
  readonly signature?: string;
}

interface VerifyOptions extends CommonOptions {
  readonly key?: string[];
  readonly signature?: string;
}

export function signCommands(program: Command): void {
  program
    .command('sign <image>')
    .description('sign a composefs image; without a key, keep a signature that somebody else made')
    .option('--key <file>', 'private Ed25519 key in PEM')
    .option('--signature <file>', 'write the signature to this file, too; without a key, take it from there')
    .action((image: string, _options: unknown, command: Command) => signImage(image, command));
  program
    .command('verify <image>')
    .description('check a composefs image and its signatures')
    .option('--key <file>', 'public key that is trusted, instead of those of oci.conf', (value, before) => [
      ...((before as string[] | undefined) ?? []),
      value,
    ])
    .option('--signature <file>', 'check this signature instead of those that are kept with the image')
    .action((image: string, _options: unknown, command: Command) => verifyImage(image, command));
}

async function signImage(name: string, command: Command): Promise<void> {
  const options = command.optsWithGlobals<SignOptions>();
  const output = outputFor(command);
  const { key, signature: file } = options;
  if (key === undefined && file === undefined)
    throw new OciError('USAGE', 'no key is named', {
      hint: 'Name one: ocictl sign IMAGE --key KEY.pem, made by openssl genpkey -algorithm ed25519 -out KEY.pem.',
    });
  const [signatures, { signImage: sign }] = await Promise.all([
    import('../image-signatures.ts'),
    import('../trust/signature.ts'),
  ]);
  await withImage(name, command, async ({ store, image }) => {
    const signed = signatures.signedImage(store, image);
    const signature =
      key === undefined
        ? signatures.readSignature(file!)
        : { name: file ?? key, text: sign(signed, signatures.readPrivateKey(key), key) };
    signatures.keepSignature(store, image, signature);
    if (key !== undefined && file !== undefined) writeSignature(file, signature.text);
    if (output.json) output.value({ digest: image.digest, imageDigest: signed.image });
    else output.line(signed.image);
  });
}

async function verifyImage(name: string, command: Command): Promise<void> {
  const { key, signature: file } = command.optsWithGlobals<VerifyOptions>();
  const output = outputFor(command);
  const signatures = await import('../image-signatures.ts');
  await withImage(name, command, async ({ store, image, places }) => {
    const given = file === undefined ? undefined : [signatures.readSignature(file)];
    const signer = signatures.checkSignatures(store, image, key ?? places.trust.keys, given);
    const imageDigest = signatures.signedImage(store, image).image;
    if (output.json)
      output.value({ digest: image.digest, imageDigest, key: signer.name, keyDigest: signer.id });
    else output.line(`${imageDigest} signed by ${signer.name}`);
  });
}

/** The image, with the digest that it says it has, under the store's lock. */
async function withImage(
  name: string,
  command: Command,
  use: (found: { store: Store; image: StoredImage; places: Places }) => Promise<void>,
): Promise<void> {
  const options = command.optsWithGlobals<CommonOptions>();
  const [{ requireStoredImage }, { openCheckedImage }] = await Promise.all([
    import('../find-image.ts'),
    import('../verified-image.ts'),
  ]);
  const { store, places } = await openStoreFromOptions(options);
  requireStoredImage(store, name); // before the lock makes anything
  using _lock = await store!.lock('shared', waitingFrom(options, outputFor(command)));
  const image = requireStoredImage(store, name);
  if (image.composefs !== undefined) closeSync(openCheckedImage(image).fd);
  await use({ store: store!, image, places });
}

function writeSignature(file: string, text: string): void {
  try {
    writeFileSync(file, text);
  } catch (error) {
    throw new OciError('IO_ERROR', `cannot write ${quote(file)}: ${(error as NodeJS.ErrnoException).code}`, {
      hint: 'Name a file that can be written.',
    });
  }
}

/** Options of oci-run and ocictl install: how sure it has to be that the image is the right one, and unchanged. */
import { type Command, Option } from 'commander';
import { parseVerityDigest } from '../composefs/verity-digest.ts';
import type { TrustRequest, VerityMode } from '../verified-image.ts';

export interface TrustTexts {
  verity: VerityMode;
  imageDigest?: string;
}

export function trustOptions(program: Command): Command {
  return program
    .addOption(
      new Option('--verity <when>', 'have the kernel verify every read of a composefs image')
        .choices(['require', 'auto', 'off'])
        .default('auto'),
    )
    .option('--image-digest <digest>', 'refuse an image whose files have another fs-verity digest');
}

/** Throws USAGE. `verity` is not there in a service that an older version installed. */
export function parseTrustOptions({ verity = 'auto', imageDigest }: Partial<TrustTexts>): TrustRequest {
  return { verity, ...(imageDigest === undefined ? {} : { imageDigest: parseVerityDigest(imageDigest) }) };
}

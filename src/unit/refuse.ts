/** How the translation says no: by the field's name, with the reason and a way out. */
import { OciError } from '../oci/errors.ts';

export function refusal(field: string, why: string, hint: string): OciError {
  return new OciError('UNSUPPORTED', `config.json: ${field} cannot be honoured: ${why}`, { hint });
}

/** A credential of a container: a file below $CREDENTIALS_DIRECTORY (systemd.exec(5), "Credentials"). */
export type Credential = { readonly name: string } & (
  | { readonly value: string }
  | {
      /** Absolute, or the name of one that the system has. */
      readonly path: string;
      readonly encrypted?: boolean;
    }
);

/** Where the container has them, as under podman. systemd's own place, /run/credentials, it hides from services that have none. */
export const CREDENTIALS_DIRECTORY = '/run/secrets';

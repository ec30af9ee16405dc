/**
 * `npm run demo`: the main road on a real systemd. Boots the test machine and tours it; every command is shown as
 * it is typed in the machine, with its output. Ends with status 1 when a command does not do what the tour says.
 */
import { ensureHostPackages } from '../test/machine/host-packages.ts';
import type { Machine } from '../test/machine/machine.ts';
import { withMachine } from '../test/machine/with-machine.ts';
import { buildPrograms } from './build.ts';
import { main, TaskFailed } from './step.ts';

const ENVIRONMENT = { SYSTEMD_PAGER: 'cat', SYSTEMD_URLIFY: '0', COLUMNS: '120' };
const NGINX = '127.0.0.1:5000/nginx';

/** Types commands into the machine. */
function typist(machine: Machine) {
  /** Shows a command and its output, which must match every one of `expected`; returns it. */
  return async (text: string, ...expected: RegExp[]): Promise<string> => {
    console.log(`\n# ${text}`);
    const { status, stdout } = await machine.run(['sh', '-c', `exec 2>&1; ${text}`], { env: ENVIRONMENT });
    process.stdout.write(stdout);
    if (status !== 0) throw new TaskFailed(`'${text}' ended with status ${status}`);
    for (const pattern of expected)
      if (!pattern.test(stdout)) throw new TaskFailed(`the output of '${text}' does not match ${pattern}`);
    return stdout;
  };
}

function say(text: string): void {
  console.log(`\n--- ${text}`);
}

async function tour(machine: Machine): Promise<void> {
  const type = typist(machine);

  say('A Debian machine with a real systemd, in namespaces of this one. It reaches no network.');
  await type('systemctl --version | head -1; systemctl is-system-running', /^running$/m);

  say('Its own registry stands in for the one that "fedora" is short for: the image is Debian and says so.');
  await type(
    'grep \'"fedora" =\' /etc/containers/registries.conf.d/shortnames.conf',
    /registry.fedoraproject.org/,
  );
  await type('cat /etc/containers/registries.conf.d/50-ocitest.conf', /registry\.fedoraproject\.org/);
  await type('oci-pull fedora', /^sha256:[0-9a-f]{64}$/m);
  await type('oci-run --pipe fedora cat /etc/os-release', /Stand-in for Fedora/);

  say('nginx, from real Debian packages. It shares its lowest layer with the image before.');
  await type(`oci-pull ${NGINX}`, /already here/, /^sha256:[0-9a-f]{64}$/m);
  await type('ocictl images', /fedora/, /nginx/);

  say('A container is a systemd service.');
  await type(`oci-run --unit web --memory 256M --network host ${NGINX}`, /^web\.service$/m);
  await type('curl -fsS --retry 20 --retry-connrefused --retry-delay 1 http://127.0.0.1:8080/', /It works/);
  await type('systemctl status web', /active \(running\)/, /nginx/);
  await type('systemd-cgls --unit web.service', /nginx/);
  await type('journalctl --unit web --no-hostname', /start worker process/);
  await type('systemctl show -p MainPID,MemoryMax,User web', /^MemoryMax=268435456$/m, /^User=oci-web$/m);

  say('Ids: www-data inside; outside a number of a range that only this start has.');
  await type(
    'pid=$(systemctl show -P MainPID web); cat /proc/$pid/uid_map; ps -o uid,user:12,args -p $pid',
    /^ +0 +\d+ +65536$/m,
  );
  await type('nsenter -t $(systemctl show -P MainPID web) -a -- grep ^Uid /proc/1/status', /^Uid:\t33\t/m);

  say('Everything that works on a service works on it.');
  await type(
    'systemctl set-property --runtime web MemoryMax=128M && systemctl show -P MemoryMax web',
    /^134217728$/m,
  );
  await type('systemctl stop web');

  say('Nothing is left: no unit, no mount, no user range, no record.');
  // The setup unit is torn down just after the payload has ended.
  await machine.script('for _ in $(seq 50); do [ -e /run/oci/containers/web ] || break; sleep 0.1; done');
  await type('systemctl list-units --all --no-legend "web*"', /^$/);
  await type(
    'findmnt --list --noheadings --output TARGET | grep oci/containers || echo no mount',
    /^no mount$/m,
  );
  await type(
    'ls -A /run/userdb /run/oci/containers 2>/dev/null | grep web || echo no record',
    /^no record$/m,
  );
  await type(
    "find /var/lib/oci/layers -mindepth 3 -printf '%U\\n' | sort -nu | sed -n '1p;$p'",
    /^21473\d+$/m,
  );
  await type('ocictl images');
}

await main(async () => {
  await ensureHostPackages();
  await buildPrograms();
  await withMachine({}, tour);
  console.log(
    '\nThe tour is over; the machine is gone. The same commands work on any machine with systemd 257 or later.',
  );
});

/**
 * What every container gets unless it asks for something else: capabilities, masked and read-only paths,
 * variables. The sets are those that runc, podman and docker users know.
 */

/** podman's default set (containers.conf(5), default_capabilities). */
export const DEFAULT_CAPABILITIES = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FOWNER',
  'CAP_FSETID',
  'CAP_KILL',
  'CAP_NET_BIND_SERVICE',
  'CAP_SETFCAP',
  'CAP_SETGID',
  'CAP_SETPCAP',
  'CAP_SETUID',
  'CAP_SYS_CHROOT',
];

/** Nothing of these can be read or written, even by the container's root. */
export const DEFAULT_MASKED_PATHS = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/sys/devices/virtual/powercap',
  '/sys/firmware',
  '/sys/fs/selinux',
  // systemd mounts a whole sysfs tree; these show the host
  '/sys/kernel/debug',
  '/sys/kernel/security',
  '/sys/kernel/tracing',
];

/**
 * Besides, where the container's root is the host's: these belong to file systems that systemd takes over from the host
 * below /sys, or tell of its disks.
 */
export const HOST_USERS_MASKED_PATHS = [
  '/proc/fs/nfsd',
  '/sys/dev/block',
  '/sys/fs/bpf',
  '/sys/fs/fuse/connections',
  '/sys/fs/pstore',
  '/sys/fs/resctrl',
  '/sys/kernel/config',
];

export const DEFAULT_READONLY_PATHS = [
  '/proc/bus',
  '/proc/fs',
  '/proc/irq',
  '/proc/sys',
  '/proc/sysrq-trigger',
  '/sys',
];

export const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
export const SHM_SIZE_BYTES = 64 * 1024 * 1024;

/** A shell script that stands for the launcher, for tests of series. */

/**
 * The script: its runs take 8 MB and 2 s.
 *
 * @param refuses Cases of a shell's `case` whose runs do not fit, each of which sets `by`.
 */
export function fakeLauncher({ gpu = "G", software = false, provider = "deno", refuses }: {
  gpu?: string;
  software?: boolean;
  provider?: string;
  refuses: string;
}): string {
  return `case "$*" in
  *device*) echo '{"gpu": "${gpu}", "provider": "deno", "software": ${software}}'; exit ;;
  ${refuses}
  *) echo '{"gpu": "${gpu}", "provider": "${provider}", "tokens": 5, "planned_mb": 9, "peak_memory_mb": 8,
      "memory_mb": {}, "seconds": 2, "tokens_per_second": 3, "first_loss": 1, "last_loss": 1, "losses": [1],
      "step_seconds": [2]}'
    exit ;;
esac
echo '{"refused": {"by": "'$by'", "total": 104857600, "needed": {"parameter": 104857600,
  "activation": 0, "gradient": 0, "optimizer": 0, "workspace": 0}}}'
exit 1`;
}

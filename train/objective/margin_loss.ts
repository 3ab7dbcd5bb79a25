/**
 * Losses of the margin by which a chosen answer leads its rejected one.
 *
 * @module
 */
import { sigmoid, softplus } from "./logistic.ts";

/** The losses by the names that TRL has for them. */
export const MARGIN_LOSSES = ["sigmoid", "hinge", "ipo", "robust"] as const;

/** Which loss, and what it takes. */
export interface MarginSettings {
  loss_type: (typeof MARGIN_LOSSES)[number];
  /** What a margin is multiplied by; of ipo, the strength τ of the regularisation. */
  beta: number;
  /** ε: the share of pairs that are thought to be the wrong way round. */
  label_smoothing: number;
}

/** A loss and its slope. */
export interface Sloped {
  loss: number;
  slope: number;
}

/**
 * The loss of a margin h:
 *
 * - `sigmoid`: −(1 − ε) log σ(βh) − ε log σ(−βh), of DPO (https://arxiv.org/abs/2305.18290, eq. 7) and, with ε, conservative DPO
 *   (https://ericmitchell.ai/cdpo.pdf)
 * - `robust`: (−(1 − ε) log σ(βh) + ε log σ(−βh)) / (1 − 2ε) (https://arxiv.org/abs/2403.00409, eq. 12)
 * - `hinge`: max(0, 1 − βh), of SLiC (https://arxiv.org/abs/2305.10425)
 * - `ipo`: (h − 1/(2β))² (https://arxiv.org/abs/2310.12036, eq. 17)
 */
export function marginLoss(h: number, settings: MarginSettings): Sloped {
  const { beta, loss_type, label_smoothing: epsilon } = settings, x = beta * h;
  switch (loss_type) {
    case "sigmoid":
      return {
        loss: (1 - epsilon) * softplus(-x) + epsilon * softplus(x),
        slope: beta * (epsilon * sigmoid(x) - (1 - epsilon) * sigmoid(-x)),
      };
    case "robust":
      return {
        loss: ((1 - epsilon) * softplus(-x) - epsilon * softplus(x)) / (1 - 2 * epsilon),
        slope: -beta * ((1 - epsilon) * sigmoid(-x) + epsilon * sigmoid(x)) / (1 - 2 * epsilon),
      };
    case "hinge":
      return { loss: Math.max(0, 1 - x), slope: x < 1 ? -beta : 0 };
    case "ipo": {
      const off = h - 1 / (2 * beta);
      return { loss: off ** 2, slope: 2 * off };
    }
  }
}

/** A colour of the scale of the page, from 0 (near) to 1 (far). */
export const shaded = (part: number) => `color-mix(in oklab, var(--bad) ${Math.round(100 * Math.min(1, Math.max(0, part)))}%, var(--busy))`

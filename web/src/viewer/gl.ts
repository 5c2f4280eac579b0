/** WebGL: a page may hold some sixteen drawings of it; what is left behind is counted until it is given back. */

let able: boolean | undefined

/** Whether this browser can draw in three dimensions. */
export function canDraw(): boolean {
  if (able === undefined) {
    const canvas = document.createElement('canvas')
    able = Boolean(canvas.getContext('webgl2'))
    giveBack(canvas)
  }
  return able
}

/** Give the drawing of a canvas back; nothing can be drawn in it any more. */
export function giveBack(canvas: HTMLCanvasElement | null) {
  canvas?.getContext('webgl2')?.getExtension('WEBGL_lose_context')?.loseContext()
}

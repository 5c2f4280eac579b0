/** Stands for h5wasm, which the page does not need. */
export default {}
export const ready = Promise.reject(new Error('HDF5 is read by the server'))
ready.catch(() => {})
export class File {}
export class Group {}
export class Dataset {}

/** Something that the user is to know, in plain words. */
export class Problem extends Error {}

export const NO_SERVER = "The engine doesn't answer. Is the server still running?";

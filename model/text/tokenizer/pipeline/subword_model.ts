/**
 * What cuts a word into tokens.
 *
 * @module
 */

/** Such a model. */
export interface SubwordModel {
  /** The ids of a word, of a text where no pre-tokenizer cuts it into words. */
  encode(word: string): readonly number[];
  /** The same model, of which no text becomes any of the ids. The unknown token stays what it was. */
  without(ids: ReadonlySet<number>): SubwordModel;
}

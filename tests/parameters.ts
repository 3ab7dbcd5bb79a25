/** Functions and how many positional parameters they have, read from the text of TypeScript. */

/** The source with comments, strings and regular expressions blanked out; what stands in templates' holes stays. */
function blanked(source: string): string {
  const text = /\/\*[^]*?\*\/|\/\/[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'/g;
  const pattern =
    /(?<=[(,=:[!&|?{};]\s*)\/(?![*\/])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^\/\\\n[])+\/[a-z]*/g;
  const blank = (found: string) => found.replace(/[^\n]/g, " ");
  return source.replace(text, blank).replace(pattern, blank);
}

/** Parameters of the list that begins with the bracket at `start`, and the place after its end. */
function listAt(text: string, start: number): { count: number; end: number } {
  let depth = 0, angles = 0, count = 0, hasOne = false;
  for (let i = start; i < text.length; i++) {
    const character = text[i];
    if ("([{".includes(character)) depth++;
    else if (")]}".includes(character)) {
      if (--depth === 0) return { count: count + (hasOne ? 1 : 0), end: i + 1 };
    } else if (character === "<") angles++;
    else if (character === ">" && text[i - 1] !== "=") angles--;
    if (depth === 1 && angles <= 0 && character === ",") {
      count++;
      hasOne = false;
    } else if (i > start && character.trim() !== "") hasOne = true;
  }
  return { count, end: text.length };
}

/** The line and the number of parameters of every list of parameters. */
export function parameterLists(source: string): { line: number; count: number }[] {
  const text = blanked(source), lists: { line: number; count: number }[] = [];
  for (let start = text.indexOf("("); start >= 0; start = text.indexOf("(", start + 1)) {
    const { count, end } = listAt(text, start);
    const before = text.slice(Math.max(0, start - 100), start), after = text.slice(end, end + 300);
    // A call is followed by neither a body nor an arrow; the words before a body may be those of a statement.
    const isStatement = /\b(?:if|for|while|switch|catch|with|await)\s*$/.test(before);
    const isFunction = /^\s*(?::[^;=()]*)?(?:=>|\{)/.test(after) ||
      /\bfunction\s*\w*\s*(?:<[^()]*>)?\s*$/.test(before) || /\bconstructor\s*$/.test(before);
    if (!isStatement && isFunction) {
      lists.push({ line: text.slice(0, start).split("\n").length, count });
    }
  }
  return lists;
}

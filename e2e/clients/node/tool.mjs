// The tool that jobs offer.
export const lookup = (query) => `The shelf says: ${query}`;

export const toolSchema = { type: "object", properties: { query: { type: "string" } }, required: ["query"] };

// Package redact finds sensitive text in the string values of a JSON body, and takes it out without touching any other byte.
//
//	edited, counts, err := redact.Redact(body, []redact.Kind{redact.Credential, redact.Email})
//
// What is found has a shape that can be told with few mistakes: keys and tokens by the prefixes that their issuers chose, card numbers
// and IBANs by their check digits, addresses by their grammar. It takes time linear in the body, finds text that is spelled with JSON
// escapes, and never looks at names of members.
//
// It is no guard against somebody who means to get text out: whoever spells an address in words, or a key in two halves, passes. It reads
// neither images nor what is encoded once more, such as base64.
package redact

// Command generate makes the lists that are installed with the program of the text
// files in lists/data. Run it in the root of the repository:
//
//	go run ./lists/generate [-v2fly DIR -third-party-web DIR] [-psl FILE]
//
// With sources it first takes over anew what services.txt and hidden.txt want of
// them. It only reads and writes files: what the sources are, and how to get
// them, says lists/data/SOURCES.md.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"

	"pakon/lists"
)

const (
	dataDir = "lists/data"
	binFile = "files/usr/share/pakon-light/lists"
)

func main() {
	v2fly := flag.String("v2fly", "", "`folder` of v2fly/domain-list-community")
	web := flag.String("third-party-web", "", "`folder` of the npm package third-party-web")
	psl := flag.String("psl", "", "`file` of the public suffix list")
	flag.Parse()
	if err := run(*v2fly, *web, *psl, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(v2fly, web, psl string, report io.Writer) error {
	if (v2fly == "") != (web == "") {
		return fmt.Errorf("imported.txt is made of both -v2fly and -third-party-web")
	}
	data := os.DirFS(dataDir)
	if psl != "" {
		text, err := os.ReadFile(psl)
		if err != nil {
			return fmt.Errorf("reading the public suffix list: %w", err)
		}
		rules, err := pslRules(string(text))
		if err != nil {
			return fmt.Errorf("reading %s: %w", psl, err)
		}
		if err := os.WriteFile(dataDir+"/"+suffixFile, rules, 0o644); err != nil {
			return err
		}
	}
	if v2fly != "" {
		src, err := openSources(os.DirFS(v2fly), os.DirFS(web))
		if err != nil {
			return err
		}
		c, err := readCatalogue(data)
		if err != nil {
			return err
		}
		suffixes, err := readSuffixes(data)
		if err != nil {
			return err
		}
		text, err := c.take(src, suffixes, report)
		if err != nil {
			return err
		}
		if err := os.WriteFile(dataDir+"/"+importedFile, text, 0o644); err != nil {
			return err
		}
	}

	d, err := readData(data)
	if err != nil {
		return err
	}
	bin, err := lists.Compile(d)
	if err != nil {
		return fmt.Errorf("compiling the lists: %w", err)
	}
	if err := os.WriteFile(binFile, bin, 0o644); err != nil {
		return err
	}
	fmt.Fprintf(report, "%d services, %d domains of services, %d hidden, %d public suffixes: %d bytes\n",
		len(d.Services), len(d.Groups), len(d.Hidden), len(d.Suffixes), len(bin))
	return nil
}

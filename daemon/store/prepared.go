package store

import (
	"context"
	"database/sql"
	"sync"
)

// maxPrepared bounds the statements that are kept. There are as many as there
// are combinations of what a filter may hold; few of them are ever used.
const maxPrepared = 32

// prepared keeps the readers' statements: parsing one takes as long as reading
// a hundred rows.
type prepared struct {
	mu         sync.Mutex
	statements map[string]*sql.Stmt // end with db
}

// get returns a statement of db, or nil if there are too many already.
func (p *prepared) get(ctx context.Context, db *sql.DB, query string) (*sql.Stmt, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, ok := p.statements[query]
	if ok || len(p.statements) >= maxPrepared {
		return s, nil
	}
	s, err := db.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	if p.statements == nil {
		p.statements = make(map[string]*sql.Stmt)
	}
	p.statements[query] = s
	return s, nil
}

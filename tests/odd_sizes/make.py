#!/usr/bin/env python3
"""Makes the cases of this folder: training steps in sizes that tests/fixtures lacks (images that are not square, one example,
one group, one channel in a group, one block), in the format of tests/fixtures/README.md. Needs numpy.

It shares nothing with the compiler: the forward pass and the estimator are written out after that README, and every derivative is a
complex step through the forward pass, exact to rounding. `f32_worst` is the departure of the same code in f32."""
import json,struct
import numpy as np

STEP=1e-10 # its square vanishes beside 1 in f64 and f32
def norm(x,ax):
    c=x-x.mean(ax,keepdims=True); return c*((c*c).mean(ax,keepdims=True)+1e-5)**-0.5
AX={'local':lambda x:(x.ndim-1,),'ln':lambda x:tuple(range(1,x.ndim)),'bn':lambda x:(0,)}
def nrm(x,k): return norm(x,AX[k](x))
def xent(z,l): return np.log(np.exp(z).sum(-1))-z[np.arange(len(l)),l]
def forward(c,par,img,lab,noise=None,greedy=False):
    N,P,C,G=c['N'],c['grid']**2,c['channels'],c['groups'];D=C//G;H,W,S=c['image'];g=c['grid'];k=c['norm']
    x=img.reshape(N,g,H//g,g,W//g,S).transpose(0,1,3,2,4,5).reshape(N,P,-1)
    v={'patches':x};hl=[]
    for b in range(c['blocks']):
        x0=x
        for l in (['token'] if b else [])+['fc','group']:
            n=f'block{b}.{l}';w,bb=par[n+'.w'],par[n+'.b']
            x=x.reshape(N,P,G,D) if l=='group' else x.reshape(N,P,-1)
            pre=nrm(x,k)
            z={'token':lambda:np.einsum('npc,pq->nqc',pre,w)+bb[None,:,None],'fc':lambda:np.einsum('npc,cd->npd',pre,w)+bb,'group':lambda:np.einsum('npgd,gde->npge',pre,w)+bb}[l]()
            a=nrm(z,k)
            if noise is not None: a=a+1j*STEP*noise[n]
            if l=='group' and b: a=a+x0.reshape(a.shape)
            x=np.where(a.real>0,a,0)
            v[n+'.pre'],v[n+'.z'],v[n+'.act']=pre,z,x
        feat=norm(x.reshape(N,P,G,D),(3,)); v[f'block{b}.feat']=feat
        zl=feat.mean(1).reshape(N,C)@par[f'head{b}.w']+par[f'head{b}.b']; v[f'head{b}.logits']=zl; hl.append(xent(zl,lab))
        if greedy: x=x.real
        x=x.reshape(N,P,C)
    zl=norm(x.mean(1),(1,))@par['cls.w']+par['cls.b']; v['logits']=zl
    return v,hl,xent(zl,lab)
def e_of(z,l):
    z=z.real; p=np.exp(z-z.max(-1,keepdims=True)); p/=p.sum(-1,keepdims=True); p[np.arange(len(l)),l]-=1; return p
def outputs(c,t):
    lab=t['labels'];img=t['images'];N,P,G=c['N'],c['grid']**2,c['groups'];C=c['channels'];D=C//G;B=c['blocks']
    par={k[6:]:v.copy() for k,v in t.items() if k.startswith('param.')};noise={k[7:]:v for k,v in t.items() if k.startswith('anoise.')}
    v,hl,L=forward(c,par,img,lab); o={**v,'loss':np.array([L.mean()])}
    for b in range(B): o[f'block{b}.loss']=np.broadcast_to(hl[b][:,None,None]/N,(N,P,G))
    for p in par:
        gb,gl=np.zeros_like(par[p]),np.zeros_like(par[p])
        for i in np.ndindex(*par[p].shape):
            q=dict(par);q[p]=par[p]+0j;q[p][i]+=1j*STEP
            _,h2,L2=forward(c,q,img,lab); gb[i]=L2.mean().imag/STEP
            own=L2 if p.startswith('cls') else h2[int(p.split('.')[0].replace('block','').replace('head',''))]
            gl[i]=own.mean().imag/STEP
        o['grad.BP.'+p]=gb;o['grad.LG-BP.'+p]=gl
    vn,_,_=forward(c,par,img,lab,noise={k:np.where(v[k+'.act']>0,u.reshape(v[k+'.act'].shape),0) for k,u in noise.items()},greedy=True)
    k=c['norm']
    for b in range(B):
        e=e_of(v[f'head{b}.logits'],lab); down=(e@par[f'head{b}.w'].T).reshape(N,1,G,D)/P/N
        dL=(vn[f'block{b}.feat'].imag/STEP*down).sum(-1); o[f'LG-FG-A.block{b}.dloss']=dL
        for l in (['token'] if b else [])+['fc','group']:
            nme=f'block{b}.{l}';u=noise[nme]*(v[nme+'.act']>0)
            if l=='group': s=dL[...,None]
            elif k=='local': s=np.repeat(dL,D,-1) if l=='fc' else dL.sum(-1)[...,None]
            elif k=='ln': s=dL.sum((1,2))[:,None,None]
            else: s=np.repeat(dL.sum(0),D,-1)[None] if l=='fc' else dL.sum((0,2))[None,:,None]
            gz=s*u;z,pre=v[nme+'.z'],v[nme+'.pre'];ax=AX[k](z)
            y=nrm(z,k);r=(z.var(ax,keepdims=True)+1e-5)**-0.5
            gz=r*(gz-gz.mean(ax,keepdims=True)-y*(gz*y).mean(ax,keepdims=True))
            o[f'grad.LG-FG-A.{nme}.w']={'token':lambda:np.einsum('npc,nqc->pq',pre,gz),'fc':lambda:np.einsum('npc,npd->cd',pre,gz),'group':lambda:np.einsum('npgd,npge->gde',pre,gz)}[l]()
            o[f'grad.LG-FG-A.{nme}.b']=gz.sum((0,2)) if l=='token' else gz.sum((0,1))
    for p in par:
        if p.startswith(('head','cls')): o['grad.LG-FG-A.'+p]=o['grad.LG-BP.'+p]
    return {n:np.asarray(a.real if np.iscomplexobj(a) else a) for n,a in o.items()}

def f32_worst(c,t,o):
    single=outputs(c,{n:a if n=='labels' else a.astype(np.float32) for n,a in t.items()})
    assert all(a.dtype==np.float32 for a in single.values()),[n for n,a in single.items() if a.dtype!=np.float32]
    # Gradients that nearly cancel out are measured by the others of their algorithm.
    algorithm=lambda n:n.split('.')[1] if n.startswith('grad.') else n
    near={g:max(abs(a).max() for n,a in o.items() if algorithm(n)==g) for g in map(algorithm,o)}
    return max(abs(single[n]-a).max()/abs(a).max() for n,a in o.items() if abs(a).max()>1e-3*near[algorithm(n)])
def write(index,name,c,t,o):
    arrays={**t,**o};header={'__metadata__':{'config':json.dumps(c)}};data=b''
    for n,a in arrays.items():
        raw=np.ascontiguousarray(a,dtype='<i8' if n=='labels' else '<f8').tobytes()
        header[n]={'dtype':'I64' if n=='labels' else 'F64','shape':list(a.shape),'data_offsets':[len(data),len(data)+len(raw)]}
        data+=raw
    h=json.dumps(header).encode()
    with open(name+'.safetensors','wb') as f: f.write(struct.pack('<Q',len(h))+h+data)
    shapes=lambda x:{n:list(a.shape) for n,a in x.items()}
    index[name]={'config':c,'checks':{'f32_worst':f32_worst(c,t,o)},'inputs':shapes(t),'outputs':shapes(o)}
def inputs(c,rng):
    N,P,C,G,K,B=c['N'],c['grid']**2,c['channels'],c['groups'],c['classes'],c['blocks'];D=C//G;I=int(np.prod(c['image']))//P
    t={'images':rng.normal(size=[N]+c['image']),'labels':rng.integers(0,K,N)}
    for b in range(B):
        for l in (['token'] if b else [])+['fc','group']:
            w,bias,a={'token':([P,P],[P],[N,P,C]),'fc':([C if b else I,C],[C],[N,P,C]),'group':([G,D,D],[G,D],[N,P,G,D])}[l]
            n=f'block{b}.{l}';t[f'param.{n}.w'],t[f'param.{n}.b'],t[f'anoise.{n}']=rng.normal(size=w),rng.normal(size=bias),rng.normal(size=a)
    for h in [f'head{b}' for b in range(B)]+['cls']: t[f'param.{h}.w'],t[f'param.{h}.b']=rng.normal(size=[C,K])/2,rng.normal(size=[K])
    return t
index={}
for seed,(name,N,image,grid,C,G,B,K,kind) in enumerate([
    ('not_square',2,[6,4,1],2,12,3,3,3,'local'),
    ('one_example',1,[4,4,2],2,8,2,2,3,'ln'),
    ('one_group',3,[4,4,1],4,5,1,2,7,'local'),
    ('one_channel',3,[4,4,1],2,4,4,3,2,'bn'),
    ('one_block',2,[4,6,1],2,8,2,1,3,'ln'),
]):
    c=dict(kind='step',N=N,image=image,grid=grid,channels=C,groups=G,blocks=B,classes=K,norm=kind)
    t=inputs(c,np.random.default_rng(seed))
    write(index,name,c,t,outputs(c,t))
with open('index.json','w') as f: json.dump(index,f,indent=1)
